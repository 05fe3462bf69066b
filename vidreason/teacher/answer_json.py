"""JSON in a teacher's answer: alone, in a code fence, or after prose; with trailing commas too."""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from vidreason.json_object import shown
from vidreason.teacher.answer_errors import AnswerError

_MAX_FAILURES = 16
"""Brackets at which no JSON begins after all: each costs time linear in the answer's length."""
# A bracket that may begin an object, or a list of objects.
_START = re.compile(r"\{(?=\s{0,200}[\"}])|\[(?=\s{0,200}\{)")
# After broken JSON another one begins a line: whatever is inside of the broken one does not count.
_NEXT_START = re.compile(r"^(?:\{(?=\s{0,200}[\"}])|\[(?=\s{0,200}\{))", re.MULTILINE)
_LOOKS_LIKE_JSON = re.compile(r"^[ \t]{0,40}(?:\{|\[\s{0,200}[{\"'])", re.MULTILINE)
# A text, which stays, or a comma before a closing bracket, which goes.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|$))|,(?=\s*+[}\]])', re.DOTALL)


class _RepeatedKeyError(ValueError):
    """Two values for one name: nobody can tell which is meant."""


def find_json(text: str, accepts: Callable[[Any], bool]) -> Any | None:  # noqa: ANN401 - JSON
    """Return the last accepted object or list of an answer; None where it has no JSON.

    Models think aloud and correct themselves: the last one is the answer.

    Args:
        text: Without thoughts.
        accepts: Tells an answer from other JSON.

    Raises:
        AnswerError: The last JSON is broken off, wrong, has a key twice, or none is accepted.
    """
    values: list[Any] = []
    problem: AnswerError | None = None
    num_failures = 0
    start = _START.search(text)
    while start is not None and num_failures < _MAX_FAILURES:
        try:
            value, end = _decoded(text, start.start())
        except AnswerError as error:
            problem, num_failures = error, num_failures + 1
            start = _NEXT_START.search(text, start.end())
            continue
        if accepts(value):
            # What was broken before it was an earlier try.
            values, problem = [value], None
        elif not values:
            problem = AnswerError("schema", f"no answer: the JSON, {_described(value)}")
        start = _START.search(text, end)
    if problem is not None:
        raise problem
    if not values and _LOOKS_LIKE_JSON.search(text):
        raise AnswerError("schema", f"no JSON: it only looks like it: {shown(text.strip())}")
    return values[0] if values else None


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at a bracket, and where it ends.

    Raises:
        AnswerError: None does.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except _RepeatedKeyError as error:
        raise AnswerError("schema", str(error)) from error
    except (ValueError, RecursionError):
        rest = text[start:]
    repaired = _TRAILING_COMMA.sub(lambda match: match[1] or "", rest)
    try:
        value, end = _DECODER.raw_decode(repaired)
    except json.JSONDecodeError as error:
        ends_early = error.pos >= len(repaired.rstrip()) or error.msg.startswith("Unterminated")
        if ends_early:
            raise AnswerError("cut", "broken off: its JSON ends in the middle") from error
        detail = f"wrong JSON: {error.msg} at {shown(repaired[error.pos : error.pos + 40])}"
        raise AnswerError("schema", detail) from error
    except RecursionError as error:
        raise AnswerError("schema", "wrong JSON: nested too deeply") from error
    except ValueError as error:
        raise AnswerError("schema", f"wrong JSON: {error}") from error
    # Commas that were taken out have shifted the end: what is left is as long as before.
    return value, len(text) - (len(repaired) - end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _RepeatedKeyError(f"repeated key: {shown(repeated)} is there twice")
    return values


def _integer(digits: str) -> int | float:
    """A number; one of hundreds of digits is as good as infinite."""
    return int(digits) if len(digits) <= 400 else float("inf")


def _described(value: object) -> str:
    if isinstance(value, dict):
        names = ", ".join(shown(name) for name in list(value)[:8])
        return f"it has the keys {names}" if names else "it is empty"
    return shown(value)


# Not strict: control characters in texts are for the gate to see.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, strict=False)
