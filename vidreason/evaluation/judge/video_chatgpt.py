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
from dataclasses import dataclass, replace
from typing import Any, Literal

from vidreason.endpoints.cache import ReplyCache
from vidreason.evaluation.judge.judges import Judge, ask_for_verdict
from vidreason.evaluation.judge.request import JudgeItem, JudgeRequest, data_blocks
from vidreason.evaluation.judge.schema import InvalidVerdictError, object_schema
from vidreason.json_object import shown

Aspect = Literal["answer", "correctness", "detail", "context", "temporal"]

QUESTION_ANSWERING: tuple[Aspect, ...] = ("answer",)
GENERATION: tuple[Aspect, ...] = ("correctness", "detail", "context", "temporal")
"""The benchmark's fifth axis, consistency, needs the same question asked in two ways."""

MAX_SCORE = 5
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
_SCORE = {"type": "integer", "minimum": 0, "maximum": MAX_SCORE}
_PRED = {"type": "string", "enum": ["yes", "no"]}


@dataclass(frozen=True, kw_only=True)
class AspectJudgement:
    """A judge's score of one answer in one aspect."""

    id: str
    video_id: str
    aspect: Aspect
    judge_id: str
    prompt_hash: str
    score: int | None = None
    """From 0 to 5; None where the output was invalid. An empty answer has 0 and "no", and no judge
    is asked."""
    pred: Literal["yes", "no"] | None = None
    """Set for the aspect ``answer`` only."""
    output: str = ""
    invalid: str = ""


def aspect_request(item: JudgeItem, aspect: Aspect) -> JudgeRequest:
    """Ask for one aspect; evidence is not shown."""
    schema = (
        object_schema(pred=_PRED, score=_SCORE)
        if aspect == "answer"
        else object_schema(score=_SCORE)
    )
    rules = (
        "You compare a predicted answer about a video, ANSWER, with the correct answer, REFERENCE. "
        f"{_ASKED[aspect]} The score is a whole number from 0 to {MAX_SCORE}, the best."
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
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= MAX_SCORE:
        raise InvalidVerdictError(f"score is {shown(score)}, not a number from 0 to {MAX_SCORE}")
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
    judgement = AspectJudgement(
        id=item.id,
        video_id=item.video_id,
        aspect=aspect,
        judge_id=judge.judge_id,
        prompt_hash=request.prompt_hash(),
    )
    if not item.answer.strip():
        return replace(judgement, score=0, pred="no" if aspect == "answer" else None)
    output, verdict, invalid = ask_for_verdict(
        judge, cache, request, lambda text, _: read_aspect(text, aspect)
    )
    return replace(judgement, output=output, invalid=invalid, **(verdict or {}))
