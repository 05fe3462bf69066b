"""Small JSON files of unknown origin, read strictly, and JSON values in messages."""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 2**22  # 4 MiB
MAX_DEPTH = 64  # lists and objects inside each other
_MAX_DIGITS = 400  # of an integer; the largest float has 309


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        max_bytes: Size of the largest file that is read.

    Raises:
        ValueError: It is no regular file, larger, or no JSON object in UTF-8; or holds the same key
            twice, a number that is none or has hundreds of digits, or more than ``MAX_DEPTH``
            levels. The message names the file and says which.
    """
    remedy = "copy it again"
    try:
        if not path.is_file():
            raise ValueError(f"{path} is damaged: it is no regular file; {remedy}")
        # Before it is read: a file of gigabytes would fill the memory.
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(
                f"{path} is damaged: it has {size:,} bytes, more than {max_bytes:,}; {remedy}"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from error
    try:
        # Strict where Python's parser is not: repeated keys, NaN, numbers of any length.
        value = json.loads(
            text,
            object_pairs_hook=_without_repeats,
            parse_int=_bounded_integer,
            parse_constant=_no_constant,
        )
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: values nested too deeply; {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it is no JSON object; {remedy}")
    if _depth_exceeds(value, MAX_DEPTH):
        raise ValueError(f"{path} is damaged: values nested too deeply; {remedy}")
    return value


def shown(value: object) -> str:
    """A value of JSON in a message; the contents of one that is long or nested are left out."""
    match value:
        case str():
            return repr(value) if len(value) <= 60 else f"{value[:57]!r}..."
        case int() if value.bit_length() > 64:
            return f"a number of {value.bit_length()} bits"
        case list() if all(isinstance(item, str) for item in value):
            text = ", ".join(repr(item[:60]) for item in value[:8])
            return f"[{text}]" if len(value) <= 8 else f"[{text}, ... {len(value) - 8} more]"
        case None | bool() | int() | float():
            return repr(value)
        case list():
            return f"a list of {len(value)}"
    return "an object"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated[:60]!r} stands there twice")
    return values


def _bounded_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}, which is no number in JSON")


def _depth_exceeds(value: object, limit: int) -> bool:
    # Level by level: recursion would end where the depth is to be told.
    level = [value]
    for _ in range(limit):
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return True
