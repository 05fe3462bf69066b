"""Arguments of a program's calls: checked before they are used, shortened before they are kept."""

import math
from collections.abc import Iterator
from itertools import islice

from vidreason.baselines.viper.sandbox import ProgramError

MAX_TEXT = 2000
"""Characters of the longest text that a program may hand over."""
MAX_ITEMS = 100
"""Items of the longest list."""
_SHOWN_TEXT = 200  # characters
_SHOWN_ITEMS = 8  # of a collection
_SHOWN_DEPTH = 2  # collections inside each other
_MAX_BITS = 64  # of an int that is written out: longer ones fill a message with digits


def checked_text(value: object, name: str) -> str:
    """Return a text with a word in it.

    Raises:
        ProgramError: It is none, or too long.
    """
    if not isinstance(value, str) or not value.strip():
        raise ProgramError(f"{name} is not a text with a word: {type(value).__name__}")
    if len(value) > MAX_TEXT:
        raise ProgramError(f"{name} has {len(value):,} characters; at most {MAX_TEXT:,} are taken")
    return value


def checked_number(value: object, name: str) -> int:
    """Return a number, rounded towards 0.

    Raises:
        ProgramError: It is none, not finite or beyond all sizes.
    """
    # Python's True and False are ints; NaN fails both comparisons below.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not isinstance(value, int | float) or not -(2**31) < value < 2**31:
        raise ProgramError(f"{name} is not a number of pixels or frames: {type(value).__name__}")
    return int(value)


def checked_real(value: object, name: str) -> float:
    """Return a finite number; True is 1.

    Raises:
        ProgramError: It is none, or beyond all sizes.
    """
    if not isinstance(value, int | float) or not -1e15 < value < 1e15:
        raise ProgramError(f"{name} is not a number of a usual size: {type(value).__name__}")
    return float(value)


def checked_list(value: object, name: str) -> list[object]:
    """Return a list, or a tuple as one, with an item and not too many.

    Raises:
        ProgramError: It is none.
    """
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_ITEMS:
        raise ProgramError(f"{name} is not a list of 1 to {MAX_ITEMS} items")
    return list(value)


def checked_texts(value: object, name: str) -> list[str]:
    """Return a list of texts.

    Raises:
        ProgramError: It is none.
    """
    return [checked_text(one, name) for one in checked_list(value, name)]


def written(value: object) -> str:
    """Return what a program has collected as text, at most :data:`MAX_TEXT` characters.

    A mapping becomes a line an entry; what is no text, number or collection is left out.
    """
    if isinstance(value, dict):
        lines = [
            f"- {_written(key, 0)}: {_written(one, 0)}"
            # No more of it is looked at, however large it is.
            for key, one in islice(value.items(), MAX_ITEMS)
        ]
        return "\n".join(lines)[:MAX_TEXT]
    return _written(value, 0)[:MAX_TEXT]


def shown(value: object, depth: int = 0) -> str:
    """Return a value in a few words, whatever its size and depth.

    Nothing of a collection but its first items is looked at: a list that holds itself, or one list
    a thousand times, costs no more than another.
    """
    if isinstance(value, str):
        return repr(value[:_SHOWN_TEXT]) + ("..." if len(value) > _SHOWN_TEXT else "")
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= _MAX_BITS else "a huge int"
    if isinstance(value, list | tuple | dict) and depth < _SHOWN_DEPTH:
        items = value.items() if isinstance(value, dict) else value
        first = [shown(one, depth + 1) for one in islice(items, _SHOWN_ITEMS)]
        more = [f"{len(value)} in all"] if len(value) > _SHOWN_ITEMS else []
        return f"[{', '.join([*first, *more])}]"
    return f"a {type(value).__name__}"


def _written(value: object, depth: int) -> str:
    if isinstance(value, str):
        return " ".join(value[:MAX_TEXT].split())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value.bit_length() <= _MAX_BITS:
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, list | tuple | dict) and depth < _SHOWN_DEPTH:
        return ", ".join(_joined(value, depth))
    return "unknown"


def _joined(
    values: list[object] | tuple[object, ...] | dict[object, object], depth: int
) -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in islice(values.items(), _SHOWN_ITEMS):
            yield f"{_written(key, depth + 1)} {_written(value, depth + 1)}"
    else:
        for value in islice(values, _SHOWN_ITEMS):
            yield _written(value, depth + 1)
