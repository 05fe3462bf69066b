"""Judging answers one by one, and two systems' answers against each other in both orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vidreason.endpoints.cache import ReplyCache
from vidreason.evaluation.judge.judges import Judge, ask_once
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
from vidreason.evaluation.judge.schema import InvalidVerdictError, why_invalid

_OTHER: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, kw_only=True)
class PointwiseJudgement:
    """What a judge said of one answer."""

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
    """What a judge said of two systems' answers to one question."""

    id: str
    video_id: str
    judge_id: str
    prompt_hash: str
    axes: tuple[Axis, ...]
    winners: Mapping[Axis, Winner] = field(default_factory=dict)
    """``first`` and ``second`` are the systems. A system wins where it wins in both orders; else
    they tie. Empty where an output was invalid."""
    consistent: Mapping[Axis, bool] = field(default_factory=dict)
    """Whether both orders gave the same result."""
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
    found = PointwiseJudgement(
        id=item.id,
        video_id=item.video_id,
        judge_id=judge.judge_id,
        prompt_hash=request.prompt_hash(),
        axes=axes,
    )
    if not item.answer.strip():
        return replace(found, scores=dict.fromkeys(axes, MIN_SCORE), reason="there is no answer")
    reply = ask_once(judge, cache, request)
    try:
        verdict = read_pointwise(reply.text, request)
    except InvalidVerdictError as error:
        return replace(found, output=reply.text, invalid=why_invalid(error, reply))
    return replace(
        found,
        output=reply.text,
        scores=verdict.scores,
        claims=verdict.claims,
        reason=verdict.reason,
    )


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
    found = PairwiseJudgement(
        id=item.id,
        video_id=item.video_id,
        judge_id=judge.judge_id,
        prompt_hash=requests[0].prompt_hash(),
        axes=axes,
        answer_chars=(len(first), len(second)),
    )
    if first.strip() == second.strip():
        return replace(
            found, winners=dict.fromkeys(axes, "tie"), consistent=dict.fromkeys(axes, True)
        )
    replies = [ask_once(judge, cache, request) for request in requests]
    outputs = tuple(reply.text for reply in replies)
    verdicts = []
    for reply, request in zip(replies, requests, strict=True):
        try:
            verdicts.append(read_pairwise(reply.text, request))
        except InvalidVerdictError as error:
            return replace(found, outputs=outputs, invalid=why_invalid(error, reply))
    forth, back = verdicts
    pairs = {axis: (forth.winners[axis], _OTHER[back.winners[axis]]) for axis in axes}
    return replace(
        found,
        outputs=outputs,
        winners={axis: one if one == other else "tie" for axis, (one, other) in pairs.items()},
        consistent={axis: one == other for axis, (one, other) in pairs.items()},
    )


def scores_of(judgements: Sequence[PointwiseJudgement], axis: Axis) -> dict[str, int]:
    """Valid scores on one axis by item id, to compare judges by."""
    return {own.id: own.scores[axis] for own in judgements if axis in own.scores}
