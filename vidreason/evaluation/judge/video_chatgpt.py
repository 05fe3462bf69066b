"""The protocol of Video-ChatGPT's quantitative evaluation, for numbers beside published ones.

Source: github mbzuai-oryx/Video-ChatGPT, ``quantitative_evaluation``. Kept are what is shown (a
question, the correct and the predicted answer, no evidence), the scale of whole numbers from 0 to
5, one request for each axis, the yes-or-no verdict of question answering with its accuracy
yes / (yes + no), and the reading of the output as a Python literal whose score is cut to a whole
number. The instructions are in words of our own, and the data are delimited as everywhere here.
Numbers of different judges cannot be compared: the same predictions moved from 35.2 to 43.6 within
weeks. The original asks again until an output can be read; here an unreadable one is counted.
"""

import ast
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vidreason.endpoints.cache import ReplyCache
from vidreason.evaluation.judge.judges import Judge, ask_once
from vidreason.evaluation.judge.request import JudgeItem, JudgeRequest, data_blocks
from vidreason.evaluation.judge.schema import InvalidVerdictError, object_schema, shown, why_invalid
from vidreason.evaluation.statistics.intervals import Interval, bootstrap_interval

Aspect = Literal["answer", "correctness", "detail", "context", "temporal"]

QUESTION_ANSWERING: tuple[Aspect, ...] = ("answer",)
GENERATION: tuple[Aspect, ...] = ("correctness", "detail", "context", "temporal")
"""The benchmark's fifth axis, consistency, needs the same question asked in two ways."""

_MAX_SCORE = 5
_MAX_OUTPUT_CHARS = 10_000
"""The parser takes hundreds of bytes of memory for each character of an output."""
_WARNINGS_LOCK = threading.Lock()
"""Filters of warnings belong to the process, and outputs are read in several threads."""
_ASKED: dict[Aspect, str] = {
    "answer": (
        "Decide whether ANSWER means the same as REFERENCE (pred: yes or no; synonyms and other "
        "wordings are right) and how well the two match (score)."
    ),
    "correctness": (
        "Score how far the facts in ANSWER agree with REFERENCE, without misreading or inventing."
    ),
    "detail": (
        "Score how completely ANSWER covers the points of REFERENCE, and with how specific detail."
    ),
    "context": (
        "Score how well ANSWER understands the whole of what REFERENCE is about, not single facts."
    ),
    "temporal": (
        "Score how well the order and the timing of events in ANSWER agree with REFERENCE."
    ),
}
_SCORE = {"type": "integer", "minimum": 0, "maximum": _MAX_SCORE}
_PRED = {"type": "string", "enum": ["yes", "no"]}


@dataclass(frozen=True, kw_only=True)
class AspectJudgement:
    """What a judge said of one answer in one aspect."""

    id: str
    video_id: str
    aspect: Aspect
    judge_id: str
    prompt_hash: str
    score: int | None = None
    """From 0 to 5; None where the output was invalid. An empty answer has 0 and "no", and no judge
    is asked."""
    pred: Literal["yes", "no"] | None = None
    """Of the aspect ``answer`` only."""
    output: str = ""
    invalid: str = ""


@dataclass(frozen=True, kw_only=True)
class AspectSummary:
    """One aspect over all items."""

    aspect: Aspect
    num_judged: int
    num_invalid: int
    score: Interval | None
    """Mean from 0 to 5, over valid outputs."""
    accuracy: Interval | None = field(default=None)
    """Of ``answer``: share of "yes" among valid outputs."""


def aspect_request(item: JudgeItem, aspect: Aspect) -> JudgeRequest:
    """Ask for one aspect; evidence is not shown."""
    schema = (
        object_schema(pred=_PRED, score=_SCORE)
        if aspect == "answer"
        else object_schema(score=_SCORE)
    )
    rules = (
        "You compare a predicted answer about a video, ANSWER, with the correct answer, REFERENCE. "
        f"{_ASKED[aspect]} The score is a whole number from 0 to {_MAX_SCORE}, the best."
    )
    blocks = data_blocks(replace(item, evidence=""), {"ANSWER": item.answer})
    return JudgeRequest(instructions=rules, blocks=blocks, schema=schema)


def read_aspect(text: str, aspect: Aspect) -> dict[str, Any]:
    """Read ``{'pred': 'yes', 'score': 4}`` as the official script does, a literal of Python.

    Raises:
        InvalidVerdictError: It is no such dictionary, or a value is out of range.
    """
    if len(text) > _MAX_OUTPUT_CHARS:
        raise InvalidVerdictError(f"{len(text)} characters, longer than any verdict")
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            # An escape that Python does not know, such as \d, is a warning about our source.
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            value = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidVerdictError(f"not one Python dictionary: {error}") from error
    names = {"pred", "score"} if aspect == "answer" else {"score"}
    if not isinstance(value, dict) or value.keys() != names:
        raise InvalidVerdictError(f"expected a dictionary with the keys {sorted(names)}")
    score, pred = value["score"], value.get("pred", "no")
    if (
        isinstance(score, bool)
        or not isinstance(score, int | float)
        or not 0 <= score <= _MAX_SCORE
    ):
        raise InvalidVerdictError(f"score is {shown(score)}, not a number from 0 to {_MAX_SCORE}")
    if not isinstance(pred, str) or pred.lower() not in ("yes", "no"):
        raise InvalidVerdictError(f"pred is {shown(pred)}, neither yes nor no")
    # Asked for whole numbers, the original's own example has 4.8, and its script cuts it to 4.
    return {"score": int(score)} | ({"pred": pred.lower()} if aspect == "answer" else {})


def judge_aspect(
    judge: Judge, cache: ReplyCache, item: JudgeItem, aspect: Aspect
) -> AspectJudgement:
    """Have one answer judged in one aspect.

    Raises:
        EndpointUnavailableError: The judge gives no output.
        ValueError: The item has no reference.
    """
    if not any(reference.strip() for reference in item.references):
        raise ValueError(f"{item.id}: Video-ChatGPT's protocol needs a correct answer")
    request = aspect_request(item, aspect)
    found = AspectJudgement(
        id=item.id,
        video_id=item.video_id,
        aspect=aspect,
        judge_id=judge.judge_id,
        prompt_hash=request.prompt_hash(),
    )
    if not item.answer.strip():
        return replace(found, score=0, pred="no" if aspect == "answer" else None)
    reply = ask_once(judge, cache, request)
    try:
        return replace(found, output=reply.text, **read_aspect(reply.text, aspect))
    except InvalidVerdictError as error:
        return replace(found, output=reply.text, invalid=why_invalid(error, reply))


def summarise_aspects(judgements: Sequence[AspectJudgement]) -> list[AspectSummary]:
    """Summaries by aspect; intervals are over videos."""
    by_aspect: dict[Aspect, list[AspectJudgement]] = {}
    for judgement in judgements:
        by_aspect.setdefault(judgement.aspect, []).append(judgement)
    return [_summary(aspect, own) for aspect, own in by_aspect.items()]


def _summary(aspect: Aspect, judgements: Sequence[AspectJudgement]) -> AspectSummary:
    valid = [own for own in judgements if own.score is not None]
    videos = [own.video_id for own in valid]
    scores = [float(own.score) for own in valid if own.score is not None]
    hits = [float(own.pred == "yes") for own in valid]
    with_accuracy = bool(valid) and aspect == "answer"
    return AspectSummary(
        aspect=aspect,
        num_judged=len(valid),
        num_invalid=len(judgements) - len(valid),
        score=bootstrap_interval(scores, videos, limits=(0.0, 5.0)) if valid else None,
        accuracy=bootstrap_interval(hits, videos) if with_accuracy else None,
    )
