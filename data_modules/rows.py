"""Rows of annotation files: their fields, read by kind, and errors that say where a row stands."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_SECONDS = 1e9
"""A time beyond this is no time in a video: a date, or a number of frames."""

_NAN_LIKE = {"", "none", "nan", "null", "n/a", "<na>", "#n/a", "undefined"}
# What a table program makes of an id that is all digits: 1053841541.0, 1.05384E+09.
_NUMBER_LIKE_ID = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")

Span = tuple[float | None, float | None]
"""Start and end in seconds; None for those of the video."""


class MalformedRowError(ValueError):
    """One record of a file is wrong; the others can still be read.

    Args:
        location: ``file:line``, or what else leads to the record.
        problem: The field, what was found there, and what was expected or helps.
        name: The record's id, such as ``qid '7'``; empty where it is not known.
    """

    def __init__(self, location: str, problem: str, name: str = "") -> None:
        super().__init__(f"{location}{name and f' ({name})'}: {problem}")
        self.location = location
        self.problem = problem


class UnusableRowError(ValueError):
    """A well-formed record that has nothing to teach.

    Args:
        location: ``file:line``, or what else leads to the record.
        cause: The same words for all records that are left out for the same reason.
    """

    def __init__(self, location: str, cause: str) -> None:
        super().__init__(f"{location}: {cause}")
        self.location = location
        self.cause = cause


class Row(dict[str, Any]):
    """One record of a file, or an object in it: what the fields hold, and where it stands.

    All its methods raise :class:`MalformedRowError` for a field that holds something else.

    Args:
        fields: By name, or as pairs of name and value.
        location: ``file:line``, or what else leads to the record.
    """

    def __init__(
        self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]], location: str
    ) -> None:
        super().__init__(fields)
        self.location = location

    def malformed(self, problem: str) -> MalformedRowError:
        """The error of a wrong record, to be raised."""
        return MalformedRowError(self.location, problem)

    def unusable(self, cause: str) -> UnusableRowError:
        """The error of a record that teaches nothing, to be raised."""
        return UnusableRowError(self.location, cause)

    def adding(self, fields: Mapping[str, Any]) -> "Row":
        """A copy with further fields, or with other values of these."""
        return Row({**self, **fields}, self.location)

    def text(self, name: str) -> str:
        """A text without blanks around it; empty where the field is null or absent."""
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.malformed(f"field {name!r} must be a text, found {value!r:.200}")
        return value.strip()

    def number_or_text(self, name: str) -> str:
        """A text, or that of a number: a count is an answer in either form."""
        value = self.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return str(value) if is_number else self.text(name)

    def required(self, name: str) -> str:
        """A text that is not empty."""
        text = self.text(name)
        if not text:
            raise self.malformed(f"field {name!r} is missing or empty; found {sorted(self)!r:.200}")
        return text

    def question(self, name: str = "question") -> str:
        """A text that is not empty, and not ``nan`` or the like either."""
        question = self.required(name)
        if is_nan_like(question):
            raise self.malformed(f"field {name!r} is {question!r}, which is no question")
        return question

    def id(self, name: str) -> str:
        """An id: a text, or a whole number, but not what a table program leaves of one."""
        value = self.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        text = self.required(name)
        if is_nan_like(text) or _NUMBER_LIKE_ID.fullmatch(text):
            raise self.malformed(
                f"field {name!r} is {text!r}, which is no id but what a table program makes of "
                "one; write the file again with ids as texts (pandas: dtype=str, "
                "keep_default_na=False)"
            )
        return text

    def seconds(self, name: str) -> float | None:
        """A time in seconds from the video's start; None where there is none.

        A time before the start, as rounding leaves some, is the start. A text that is a number is
        read as one; an empty one, ``nan`` and the like are none.

        Raises:
            UnusableRowError: It is infinite, or no number in the sense of arithmetic.
        """
        value = self.get(name)
        if value is None or (isinstance(value, str) and is_nan_like(value)):
            return None
        self.check_finite(value)
        seconds = parse_seconds(value)
        if seconds is None:
            raise self.malformed(
                f"field {name!r} must be seconds from the video's start, found {value!r:.200}"
            )
        return seconds

    def span(self, start: str = "start", end: str = "end") -> Span:
        """The span between two times.

        Raises:
            UnusableRowError: It is empty, reversed, or infinite.
        """
        return self.check_span(self.seconds(start), self.seconds(end))

    def nested(self, name: str) -> "Row":
        """An object, as a row at the same location."""
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.malformed(f"field {name!r} must be an object, found {value!r:.200}")
        return Row(value, self.location)

    def objects(self, name: str) -> list["Row"]:
        """A list of objects, as rows at the same location."""
        items = self.get(name)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self.malformed(f"field {name!r} must be a list of objects, found {items!r:.200}")
        return [Row(item, self.location) for item in items]

    def texts(self, name: str) -> list[str]:
        """A list of texts, without blanks around them."""
        items = self.get(name)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.malformed(f"field {name!r} must be a list of texts, found {items!r:.200}")
        return [item.strip() for item in items]

    def check_answered(self, name: str, is_answered: bool, *, in_others: bool) -> None:
        """Raise an error where a row has an answer and others hide it, or the other way round."""
        if is_answered != in_others:
            state = "there" if is_answered else "missing or empty"
            raise self.malformed(f"field {name!r} is {state}, in other rows it is not")

    def check_finite(self, value: object) -> None:
        """Raise an :class:`UnusableRowError` for a time that is infinite or NaN."""
        if isinstance(value, float) and not math.isfinite(value):
            raise self.unusable("its span is no number of seconds")

    def check_span(self, start_seconds: float | None, end_seconds: float | None) -> Span:
        """Return a span; raise an :class:`UnusableRowError` unless it ends after it starts."""
        start = start_seconds or 0.0
        if end_seconds is not None and end_seconds <= start:
            is_empty = end_seconds == start
            raise self.unusable(
                "its span is empty" if is_empty else "its span ends before it starts"
            )
        return start_seconds, end_seconds


def parse_seconds(value: object) -> float | None:
    """A time in seconds, not before 0; None where ``value`` is no finite number, nor its text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # For Python true is the number 1, which is no time.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(max(value, 0)) if abs(value) < MAX_SECONDS else None


def is_nan_like(text: str) -> bool:
    """Return whether a text is empty or what programs write for nothing: ``nan``, ``None``.

    Only for fields in which such a word cannot be meant: ``None`` is an answer, but no caption.
    """
    return text.strip().casefold() in _NAN_LIKE
