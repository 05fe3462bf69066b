"""A teacher's answer as a draft: strict JSON, JSON with liberties, or words."""

import math
import re
from collections.abc import Mapping
from typing import Any

from vidreason.json_object import shown
from vidreason.reasoning.plain_text import own_turn, without_markup, without_thoughts
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction
from vidreason.teacher.answer_errors import AnswerError
from vidreason.teacher.answer_json import find_json
from vidreason.teacher.answer_prose import read_predictions, read_prose, read_steps, without_mark
from vidreason.teacher.answer_times import Times, read_seconds, read_times, timed_steps
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.refusals import is_refusal

__all__ = ["MAX_ANSWER_CHARS", "AnswerError", "read_answer"]

MAX_ANSWER_CHARS = 2**18
"""A longer answer, thoughts included, is not read: some 60,000 tokens."""

# Names that models give to the fields, as they are after _field_name(). The first is the form's.
_STEPS = (
    *("steps", "causal_explanation", "explanation", "step_by_step_causal_explanation"),
    *("step_by_step_explanation", "causal_steps", "explanation_steps", "causal_chain"),
)
_PREDICTIONS = (
    *("predictions", "prediction", "future_predictions", "future_prediction", "future_events"),
    *("predicted_events", "predicted_event", "next_events", "next_event"),
)
_WRAPPERS = ("answer", "response", "result", "output", "final_answer")
_STEP_TEXT = ("text", "step", "description", "event", "explanation", "action", "content")
_START = ("start_seconds", "start", "start_time", "from", "begin", "start_sec", "start_s")
_END = ("end_seconds", "end", "end_time", "to", "end_sec", "end_s")
_SPAN = ("time", "times", "timestamp", "timestamps", "time_range", "span", "interval", "seconds")
_EVENT = ("event", "text", "prediction", "description", "outcome", "action", "content")
_REASON = ("justification", "reason", "reasoning", "rationale", "explanation", "why", "because")
_CONFIDENCE = ("confidence", "probability", "likelihood", "confidence_score", "score")

# Reasoning models write <answer> after their thoughts.
_ANSWER_MARK = re.compile(r"</?answer>", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n]+")
_MARKDOWN = re.compile(r"[*`]|\b__|__\b")
_PERCENT = re.compile(r"\s{0,4}(\d{1,3}(?:\.\d{1,9})?)\s{0,4}(?:%|percent)\s{0,4}")
_SHARE = re.compile(r"\s{0,4}(\d{1,3}(?:\.\d{1,9})?)\s{0,4}(?:/|out of)\s{0,4}(10|100)\s{0,4}")
_NUMBER = re.compile(r"\s{0,4}(?:\d{1,9}(?:\.\d{0,15})?|\.\d{1,15})\s{0,4}")


def read_answer(text: str) -> Draft:
    """Read a teacher's answer. Deterministic; takes time linear in its length.

    The form that is asked for is one JSON object with ``steps``, objects of ``text``,
    ``start_seconds`` and ``end_seconds``, and ``predictions``, objects of ``event``,
    ``justification`` and ``confidence``. Also read are texts in place of objects, one prediction
    without a list, other names of the fields, JSON in a code fence or after prose or thoughts, and
    prose with or without headings; see :mod:`vidreason.teacher.answer_prose`. Nothing is guessed:
    a part that cannot be read makes the whole answer unreadable.

    Texts have single blanks in place of line ends, and lone surrogates, which no file can hold,
    are replaced by U+FFFD; all else, such as markup and control characters, is left for the gate.

    Raises:
        AnswerError: It is a refusal, too long, broken off, or not of any form.
    """
    if len(text) > MAX_ANSWER_CHARS:
        detail = f"too long: {len(text):,} characters, more than {MAX_ANSWER_CHARS:,}"
        raise AnswerError("length", detail)
    said = outside_thoughts(text)
    if not said.strip():
        has_thoughts = bool(text.strip())
        if has_thoughts:
            raise AnswerError("schema", "thoughts alone: no answer follows them")
        raise AnswerError("refusal", "empty: the answer has no text")
    # A turn that is not the model's own is not cut off before the JSON is read: control tokens in
    # a text are for the gate to see.
    value = find_json(said, _is_answer)
    draft = _draft_of_words(said) if value is None else _draft_of_json(value)
    if not draft.steps and not draft.predictions:
        raise AnswerError(
            "schema", f"nothing: neither steps nor predictions in {shown(said.strip())}"
        )
    return draft


def outside_thoughts(text: str) -> str:
    """The answer without thoughts, without marks around the answer, and encodable."""
    return _ANSWER_MARK.sub("\n", without_thoughts(_encodable(text)))


def refused_part(draft: Draft) -> str | None:
    """Return the first text of a draft that is a refusal in place of a step or an event."""
    texts = (*(step.text for step in draft.steps), *(item.event for item in draft.predictions))
    return next((text for text in texts if is_refusal(text)), None)


def _draft_of_words(text: str) -> Draft:
    if is_refusal(own_turn(text)):
        raise AnswerError("refusal", f"refused: {shown(own_turn(text).strip())}")
    steps, predictions = read_prose(text)
    return Draft(steps=steps, predictions=_likeliest_first(predictions))


def _draft_of_json(value: Any) -> Draft:  # noqa: ANN401 - JSON
    fields = _fields(_unwrapped(value))
    steps = _steps(_first(fields, _STEPS))
    predictions = _predictions(_first(fields, _PREDICTIONS), fields)
    return Draft(steps=steps, predictions=_likeliest_first(predictions))


def _is_answer(value: Any) -> bool:  # noqa: ANN401 - JSON
    inside = _unwrapped(value)
    return isinstance(inside, dict) and bool(_fields(inside).keys() & {*_STEPS, *_PREDICTIONS})


def _unwrapped(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The object inside of a list of one, or of an object with nothing else in it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and len(value) == 1:
        name, inside = next(iter(value.items()))
        if _field_name(name) in _WRAPPERS and isinstance(inside, dict):
            return inside
    return value


def _steps(value: object) -> tuple[Step, ...]:
    """The steps of a list, of an object that numbers them, or of a text."""
    if isinstance(value, dict):
        # {"steps": [...]} once more, or {"1": ..., "2": ...}.
        value = _first(_fields(value), _STEPS) or list(value.values())
    match value:
        case None:
            return ()
        case str():
            return read_steps(_plain(value, single_line=False))
        case list():
            texts, times = [], []
            for number, item in enumerate(value, start=1):
                text, given = _step(item, f"step {number}")
                texts.append(text)
                times.append(given)
            return timed_steps(texts, times)
    raise AnswerError("schema", f"wrong field: steps: expected a list, found {shown(value)}")


def _step(item: object, where: str) -> tuple[str, Times]:
    match item:
        case str():
            return _text(item, where), Times()
        case dict():
            fields = _fields(item)
            # The first that is a text: "step" may be the number of the step.
            text = next((fields[n] for n in _STEP_TEXT if isinstance(fields.get(n), str)), None)
            return _text(text, where), _step_times(fields, where)
    raise AnswerError(
        "schema", f"wrong field: {where}: expected a text or an object, found {shown(item)}"
    )


def _step_times(fields: Mapping[str, Any], where: str) -> Times:
    start = read_seconds(_first(fields, _START), f"{where}: start")
    end = read_seconds(_first(fields, _END), f"{where}: end")
    if start is not None or end is not None:
        return Times(start, end)
    # Both times in one field, as an object, a list or a text.
    span = _first(fields, _SPAN)
    if isinstance(span, dict):
        inside = _fields(span)
        return Times(
            read_seconds(_first(inside, _START), f"{where}: start"),
            read_seconds(_first(inside, _END), f"{where}: end"),
        )
    return read_times(span, f"{where}: time")


def _predictions(value: object, beside: Mapping[str, Any]) -> tuple[Prediction, ...]:
    """The predictions of a list, of an object, or of a text.

    Args:
        value: What the answer has for them.
        beside: Fields of the whole answer: reason and confidence of one prediction may stand there.
    """
    match value:
        case None:
            return ()
        case str():
            # A single event in words: its reason and its confidence may stand beside it.
            items = read_predictions(_plain(value, single_line=False))
            if len(items) == 1 and math.isnan(items[0].confidence):
                confidence = _confidence(_first(beside, _CONFIDENCE), "prediction")
                reason = _first(beside, ("justification", "reason", "rationale"))
                said = items[0].justification or _optional_text(reason, "justification")
                items = (Prediction(items[0].event, said, confidence),)
        case dict() if _first(_fields(value), _EVENT) is None and all(
            isinstance(item, dict | str) for item in value.values()
        ):
            # No prediction itself, but an object that numbers some: {"1": ..., "2": ...}.
            return _predictions(list(value.values()), beside)
        case dict():
            items = (_prediction(value, "prediction"),)
        case list():
            named = ((item, f"prediction {n}") for n, item in enumerate(value, start=1))
            items = tuple(_prediction(item, where) for item, where in named)
        case _:
            raise AnswerError(
                "schema", f"wrong field: predictions: expected a list, found {shown(value)}"
            )
    # One prediction may do without a confidence; several cannot be ranked without.
    if len(items) > MAX_PREDICTIONS:
        raise AnswerError(
            "length", f"too many predictions: {len(items)}, at most {MAX_PREDICTIONS}"
        )
    if len(items) > 1 and any(math.isnan(item.confidence) for item in items):
        raise AnswerError("schema", f"no confidence: {len(items)} predictions, not all with one")
    return items


def _prediction(item: object, where: str) -> Prediction:
    if isinstance(item, str):
        items = read_predictions(_plain(item, single_line=False))
        if len(items) == 1:
            return items[0]
    elif isinstance(item, dict):
        fields = _fields(item)
        event = _text(_first(fields, _EVENT), where)
        reason = next((fields[name] for name in _REASON if name in fields), None)
        confidence = _confidence(_first(fields, _CONFIDENCE), where)
        return Prediction(event, _optional_text(reason, f"{where}: justification"), confidence)
    raise AnswerError(
        "schema", f"wrong field: {where}: expected a text or an object, found {shown(item)}"
    )


def _confidence(value: object, where: str) -> float:
    """A confidence as it is given; the gate looks at its range. NaN for none."""
    match value:
        case None | "":
            return math.nan
        case bool():
            pass  # a bool is an int, too
        case int() | float():
            # An integer of hundreds of digits is no float.
            if abs(value) < 1e9:
                return float(value)
        case str():
            if percent := _PERCENT.fullmatch(value):
                return float(percent[1]) / 100
            if share := _SHARE.fullmatch(value):
                return float(share[1]) / float(share[2])
            if _NUMBER.fullmatch(value):
                return float(value)
    raise AnswerError(
        "schema", f"wrong field: {where}: expected a confidence, found {shown(value)}"
    )


def _likeliest_first(predictions: tuple[Prediction, ...]) -> tuple[Prediction, ...]:
    # The order is defined: a NaN is the only prediction.
    return tuple(sorted(predictions, key=lambda item: -item.confidence))


def _fields(value: Mapping[str, Any]) -> dict[str, Any]:
    """Values by uniform names; of two that become the same, the first counts."""
    fields: dict[str, Any] = {}
    for name, content in value.items():
        fields.setdefault(_field_name(name), content)
    return fields


def _field_name(name: str) -> str:
    return name[:60].strip().casefold().replace(" ", "_").replace("-", "_")


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    """The first of some fields that is there and holds something."""
    values = (fields.get(name) for name in names)
    return next((value for value in values if value not in (None, "", [], {})), None)


def _text(value: object, where: str) -> str:
    """A text in one line, without the number of a list.

    Raises:
        AnswerError: It is no text, or has no letter.
    """
    text = without_mark(_plain(value)) if isinstance(value, str) else ""
    if not any(map(str.isalnum, text)):
        raise AnswerError("schema", f"wrong field: {where}: expected a text, found {shown(value)}")
    return text


def _optional_text(value: object, where: str) -> str:
    return "" if value in (None, "") else _text(value, where)


def _plain(text: str, *, single_line: bool = True) -> str:
    """The text without emphasis of Markdown; all else that is not plain stays, for the gate."""
    text = _encodable(text)
    if single_line:
        text = _BLANKS.sub(" ", text).strip(" ")
    # A text with control characters or tags is left as it is, so that the gate sees all of them.
    visible = text.replace("\n", " ")
    if _MARKDOWN.search(text) and visible.isprintable() and "<" not in text:
        text = without_markup(text)
    return text


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can write, and no file can."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
