"""Judging answers one by one, and two systems' answers against each other in both orders."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vidreason.endpoints.cache import ReplyCache
from vidreason.evaluation.judge.judges import Judge, ask_for_verdict
from vidreason.evaluation.judge.request import JudgeItem
from vidreason.evaluation.judge.rubric import (
    MIN_SCORE,
    Axis,
    Claim,
    Winner,
    judged_axes,
    pairwise_request,
    pointwise_request,
    read_pairwise,
    read_pointwise,
)

_OTHER: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, kw_only=True)
class PointwiseJudgement:
    """A judge's scores of one answer."""

    id: str
    video_id: str
    judge_id: str
    prompt_hash: str
    axes: tuple[Axis, ...]
    """The axes that were judged: without evidence, factual grounding is not."""
    scores: Mapping[Axis, int] = field(default_factory=dict)
    """From 1 to 5; empty where the output was invalid. An empty answer has the lowest scores, and
    no judge is asked."""
    claims: tuple[Claim, ...] = ()
    reason: str = ""
    output: str = ""
    """The judge's output as it was."""
    invalid: str = ""
    """Why the output is no verdict; empty where it is one."""


@dataclass(frozen=True, kw_only=True)
class PairwiseJudgement:
    """A judge's comparison of two systems' answers to one question."""

    id: str
    video_id: str
    judge_id: str
    prompt_hash: str
    axes: tuple[Axis, ...]
    winners: Mapping[Axis, Winner] = field(default_factory=dict)
    """``first`` and ``second`` are the systems. A system wins where it wins in both orders; else
    they tie. Empty where an output was invalid."""
    consistent: Mapping[Axis, bool] = field(default_factory=dict)
    """True if both orders gave the same result."""
    answer_chars: tuple[int, int] = (0, 0)
    """Lengths of the two answers: judges prefer long ones."""
    outputs: tuple[str, ...] = ()
    """The judge's outputs: the first system's answer shown first, then second."""
    invalid: str = ""


def judge_answer(judge: Judge, cache: ReplyCache, item: JudgeItem) -> PointwiseJudgement:
    """Have one answer scored.

    Raises:
        EndpointUnavailableError: The judge gives no output.
    """
    request, axes = pointwise_request(item), judged_axes(item)
    judgement = PointwiseJudgement(
        id=item.id,
        video_id=item.video_id,
        judge_id=judge.judge_id,
        prompt_hash=request.prompt_hash(),
        axes=axes,
    )
    if not item.answer.strip():
        lowest = dict.fromkeys(axes, MIN_SCORE)
        return replace(judgement, scores=lowest, reason="there is no answer")
    output, verdict, invalid = ask_for_verdict(judge, cache, request, read_pointwise)
    return replace(judgement, output=output, invalid=invalid, **(verdict or {}))


def judge_pair(
    judge: Judge, cache: ReplyCache, item: JudgeItem, first: str, second: str
) -> PairwiseJudgement:
    """Have two systems' answers compared, each shown first once.

    Two equal answers tie, and no judge is asked.

    Args:
        judge: Who compares.
        cache: Where outputs are kept.
        item: The question; its own answer is not looked at.
        first: The first system's answer.
        second: The second system's.

    Raises:
        EndpointUnavailableError: The judge gives no output.
    """
    requests = (pairwise_request(item, first, second), pairwise_request(item, second, first))
    axes = judged_axes(item)
    judgement = PairwiseJudgement(
        id=item.id,
        video_id=item.video_id,
        judge_id=judge.judge_id,
        prompt_hash=requests[0].prompt_hash(),
        axes=axes,
        answer_chars=(len(first), len(second)),
    )
    if first.strip() == second.strip():  # no judge is asked
        return replace(
            judgement, winners=dict.fromkeys(axes, "tie"), consistent=dict.fromkeys(axes, True)
        )
    outputs, verdicts, invalid = zip(
        *(ask_for_verdict(judge, cache, request, read_pairwise) for request in requests),
        strict=True,
    )
    # A system wins an axis where both orders say so; judges prefer what they see first.
    forth, back = verdicts
    if forth is None or back is None:
        return replace(judgement, outputs=outputs, invalid=next(filter(None, invalid)))
    # Of each axis, who wins in either order, the second told as if it were the first.
    pairs = {axis: (forth[axis], _OTHER[back[axis]]) for axis in axes}
    return replace(
        judgement,
        outputs=outputs,
        winners={axis: one if one == other else "tie" for axis, (one, other) in pairs.items()},
        consistent={axis: one == other for axis, (one, other) in pairs.items()},
    )
