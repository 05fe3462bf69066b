"""Times in a teacher's words: ``2.5``, ``"2.5 s"``, ``0:03``, ``[1.0-2.5]``, ``at 2.5s``."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from vidreason.json_object import shown
from vidreason.teacher.answer_errors import AnswerError
from vidreason.teacher.draft import Step

# Repetitions are bounded: unbounded neighbours take quadratic time on loops.
_UNIT = r"(?:[ ]?(?:s|secs?|seconds?)\b)"
_CLOCK = r"(?:\d{1,2}:)?\d{1,2}:\d{2}(?:\.\d{1,6})?(?!\d|:\d)"
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?(?![\d.]*\d)"
_TO = r"[ ]{0,3}(?:-|\u2013|\u2014|~|,|to|until|and)[ ]{0,3}"
_TIME = rf"(?:{_CLOCK}|{_NUMBER})"


def _span(name: str) -> str:
    """A time, or two of them; groups ``name_first`` and ``name_last``."""
    return (
        rf"t?[ ]?=?[ ]?(?P<{name}_first>{_TIME}){_UNIT}?(?:{_TO}(?P<{name}_last>{_TIME}){_UNIT}?)?"
    )


# A number alone is a time only where something says so: a unit, a colon, a point, or a range in
# brackets. "(2) The man" and "2 men" have none.
_IS_TIME = rf"(?=[^\])\n]{{0,40}}?(?:\d:\d|\d\.\d|\d{_UNIT}|\d{_TO}\d))"
_LABEL = re.compile(
    rf"(?:\[{_IS_TIME}[ ]?{_span('square')}[ ]?\]|\({_IS_TIME}[ ]?{_span('round')}[ ]?\))"
    r"[ ]?[:,\-\u2013\u2014]?[ ]{0,3}"
    rf"|(?=[^\n]{{0,40}}?(?:\d:\d|\d{_UNIT})){_span('bare')}[ ]?[:\-\u2013\u2014][ ]{{1,3}}"
    rf"|(?P<clock_first>{_CLOCK})[ ]{{1,3}}(?=[^\W\d])",
    re.IGNORECASE,
)
# "Opening the door (0:00-0:03): the man ..."
_TITLE = re.compile(
    rf"[^.:()\[\]\n]{{1,60}}(?:\({_IS_TIME}{_span('round')}[ ]?\)"
    rf"|\[{_IS_TIME}{_span('square')}[ ]?\])[ ]?:[ ]",
    re.IGNORECASE,
)
_LABEL_AT_END = re.compile(
    rf"[ ]?(?:\[{_IS_TIME}(?:at |from |between )?{_span('square')}[ ]?\]"
    rf"|\({_IS_TIME}(?:at |from |between )?{_span('round')}[ ]?\))[ ]?(?P<stop>[.!]?)$",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    rf"\b(?:at|around|about|from|between|after)[ ](?:about |around |approximately )?"
    rf"(?=[^\n]{{0,40}}?(?:\d:\d|\d{_UNIT})){_span('said')}",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"[\[(]?[ ]?(?:at |from )?{_span('whole')}[ ]?[\])]?", re.IGNORECASE)
_MAX_LABEL_CHARS = 60


class Times(NamedTuple):
    """Start and end of a step; None where an answer does not say."""

    start_seconds: float | None = None
    end_seconds: float | None = None


_NONE = Times()


def timed_steps(texts: Sequence[str], times: Sequence[Times] = ()) -> tuple[Step, ...]:
    """Make steps; times that are a label before or after a text are taken off.

    Times that are a part of a sentence, as in "at 2.5 s the ball", are left in it. They count only
    where each step has some: a single "after 3 seconds" says how long something takes.

    Args:
        texts: One line each.
        times: Those that the answer gives beside each text, which count before those in it; empty
            for none.
    """
    bare, labels, phrases = [], [], []
    for text, given in zip(texts, times or [_NONE] * len(texts), strict=True):
        text, label = _without_label(text)
        phrase = None if label else _PHRASE.search(text)
        bare.append(text)
        labels.append(given if given != _NONE or label is None else _times_of(label))
        phrases.append(_NONE if phrase is None else _times_of(phrase))
    either = [
        phrase if label == _NONE else label for label, phrase in zip(labels, phrases, strict=True)
    ]
    chosen = labels if _NONE in either else either
    return tuple(Step(text, *given) for text, given in zip(bare, chosen, strict=True))


def _without_label(text: str) -> tuple[str, re.Match[str] | None]:
    """The text without times, and their title, before or after it; and the match of them."""
    label = _LABEL.match(text) or _TITLE.match(text)
    if label is not None and label.end() < len(text):
        return text[label.end() :].strip(), label
    # The search is for the end of the text, and so only near it.
    label = _LABEL_AT_END.search(text, max(len(text) - _MAX_LABEL_CHARS, 0))
    if label is not None and label.start() > 0:
        return text[: label.start()].strip() + label["stop"], label
    return text.strip(), None


def is_time_label(text: str) -> bool:
    """Return whether a line begins with times as a label."""
    return _LABEL.match(text) is not None


def read_seconds(value: object, where: str) -> float | None:
    """Read a time that is a field of an answer; None for null and empty.

    Raises:
        AnswerError: It is something else.
    """
    if value is None or value == "":
        return None
    times = read_times(value, where)
    if times.start_seconds is None or times.end_seconds not in (None, times.start_seconds):
        raise AnswerError(
            "schema", f"wrong field: {where}: expected a time in seconds, found {shown(value)}"
        )
    return times.start_seconds


def read_times(value: object, where: str) -> Times:
    """Read a field that holds one time or two: a number, a text, or a list of them.

    Raises:
        AnswerError: It holds something else.
    """
    match value:
        case None | "" | []:
            return Times()
        case bool():
            pass
        case int() | float():
            # Not float(value): an integer of hundreds of digits is none.
            if abs(value) < 1e9:
                return Times(float(value), float(value))
        case str():
            whole = _WHOLE.fullmatch(" ".join(value[:_MAX_LABEL_CHARS].split()))
            if whole is not None and len(value) <= _MAX_LABEL_CHARS:
                return _times_of(whole)
        case [first, last]:
            return Times(read_seconds(first, where), read_seconds(last, where))
    raise AnswerError(
        "schema", f"wrong field: {where}: expected times in seconds, found {shown(value)}"
    )


def _times_of(match: re.Match[str]) -> Times:
    """Times of the one form that a pattern has matched; a single one is both start and end."""
    groups = match.groupdict()
    first = next(text for name, text in groups.items() if name.endswith("_first") and text)
    last = next((text for name, text in groups.items() if name.endswith("_last") and text), None)
    start = _seconds(first)
    return Times(start, start if last is None else _seconds(last))


def _seconds(text: str) -> float:
    """Seconds of ``2.5``, ``0:03`` or ``1:02:03.5``."""
    parts = enumerate(reversed(text.split(":")))
    return math.fsum(60**power * float(part) for power, part in parts)
