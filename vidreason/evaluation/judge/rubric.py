"""The rubric: the paper's axes with anchors, as requests to a judge and as verdicts read back.

Axes: factual grounding, logical coherence, insightfulness (section 5.1.2). The paper gives no
scale; scores are 1 to 5 with an anchor for each. The schema asks for claims and reason before
scores, so that a model which writes from left to right argues first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidreason.evaluation.judge.request import JudgeItem, JudgeRequest, data_blocks
from vidreason.evaluation.judge.schema import object_schema, read_object

Axis = Literal["factual_grounding", "logical_coherence", "insightfulness"]
Winner = Literal["first", "second", "tie"]

AXES: tuple[Axis, ...] = ("factual_grounding", "logical_coherence", "insightfulness")
MIN_SCORE, MAX_SCORE = 1, 5

ANCHORS: dict[Axis, str] = {
    "factual_grounding": (
        "Factual grounding: is what the answer states about the video borne out by the evidence? "
        "1: mostly contradicted or made up. 2: more wrong or unsupported than right. 3: the main "
        "point is supported, details are not. 4: supported but for a minor detail. 5: every claim "
        "about the video is supported. What is plausible but not in the evidence is unsupported."
    ),
    "logical_coherence": (
        "Logical coherence: does the reasoning hold together, whatever the facts? 1: contradicts "
        "itself or is no reasoning. 2: steps do not follow. 3: follows, with a gap that matters. "
        "4: follows, with a small gap. 5: each step follows, causes come before effects, and the "
        "conclusion answers the question."
    ),
    "insightfulness": (
        "Insightfulness: does the answer go beyond describing? 1: off the point or empty. 2: only "
        "repeats what is plain to see. 3: one obvious inference. 4: a good inference about cause, "
        "intention or consequence. 5: an inference that is not obvious and is well founded. "
        "Length, flourish and confidence are no insight."
    ),
}
_CLAIM = object_schema(
    text={"type": "string"},
    supported={"type": "string", "enum": ["yes", "no", "unclear"]},
)
_CLAIMS = {"type": "array", "items": _CLAIM, "maxItems": 20}
_SCORE = {"type": "integer", "minimum": MIN_SCORE, "maximum": MAX_SCORE}
_WINNER = {"type": "string", "enum": ["first", "second", "tie"]}
_INTRODUCTION = (
    "You judge {what} about a video that you cannot see. EVIDENCE, where it is given, tells what "
    "is in the video; REFERENCE, where it is given, is a good answer, but others exist."
)
_LENGTH_RULE = "Do not prefer longer answers. Give a reason of at most 60 words before the result."


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of an answer, and whether the evidence bears it out."""

    text: str
    supported: Literal["yes", "no", "unclear"]


def judged_axes(item: JudgeItem) -> tuple[Axis, ...]:
    """The axes that can be judged: without evidence nothing can be said of factual grounding."""
    return AXES if item.evidence.strip() else AXES[1:]  # all but factual grounding


def pointwise_request(item: JudgeItem) -> JudgeRequest:
    """Ask for scores of an item's answer."""
    axes = judged_axes(item)
    rules = [
        _INTRODUCTION.format(what="an answer to a question"),
        "First list the claims that ANSWER makes about the video, and for each whether EVIDENCE "
        "supports it (unclear where there is no evidence). Then score each of:",
        *(ANCHORS[axis] for axis in axes),
        _LENGTH_RULE,
    ]
    properties: dict[str, Any] = {"claims": _CLAIMS, "reason": {"type": "string"}}
    return JudgeRequest(
        instructions="\n".join(rules),
        blocks=data_blocks(item, {"ANSWER": item.answer}),
        schema=object_schema(**properties, **dict.fromkeys(axes, _SCORE)),
    )


def pairwise_request(item: JudgeItem, first: str, second: str) -> JudgeRequest:
    """Ask which of two answers to an item's question is better; the item's own is not shown."""
    axes = judged_axes(item)
    rules = [
        _INTRODUCTION.format(what="two answers to one question"),
        "On each axis say whether FIRST or SECOND is better, or that they tie. The order in which "
        "they stand means nothing. The axes:",
        *(ANCHORS[axis] for axis in axes),
        _LENGTH_RULE,
    ]
    return JudgeRequest(
        instructions="\n".join(rules),
        blocks=data_blocks(item, {"FIRST": first, "SECOND": second}),
        schema=object_schema(reason={"type": "string"}, **dict.fromkeys(axes, _WINNER)),
    )


def read_pointwise(text: str, request: JudgeRequest) -> dict[str, Any]:
    """Read a judge's output: ``claims``, ``reason`` and ``scores`` by axis.

    Raises:
        InvalidVerdictError: It is not what was asked for.
    """
    value = read_object(text, request.schema)
    claims = tuple(Claim(**claim) for claim in value["claims"])
    return {"claims": claims, "reason": value["reason"], "scores": _by_axis(value)}


def read_pairwise(text: str, request: JudgeRequest) -> dict[Axis, Winner]:
    """Read a judge's output: which of two answers is better on each axis, as they were shown.

    Raises:
        InvalidVerdictError: It is not what was asked for.
    """
    return _by_axis(read_object(text, request.schema))


def _by_axis(value: Mapping[str, Any]) -> dict[Axis, Any]:
    return {axis: value[axis] for axis in AXES if axis in value}
