"""JSON annotation files, read strictly and as streams; see :mod:`data_modules.annotation_files`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from data_modules.annotation_files import read_lines, require_file

MAX_MEMBER_CHARACTERS = 64 * 2**20
"""The largest member of an array or object: all narrations of a day-long video stay far below."""

_REMEDY = "the file may be cut off, or edited here: fetch it again"
_CHUNK_CHARACTERS = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(path: Path) -> Any:  # noqa: ANN401 - what the file holds is checked by the caller
    """Read one JSON document, whole: for small files such as id maps.

    Raises:
        ValueError: The file is missing or not valid JSON; the message has the line.
    """
    text = "".join(line for _, line in read_lines(path))
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: not valid JSON: {error.msg}; {_REMEDY}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for each non-empty line of a file with one JSON object a line.

    Raises:
        ValueError: The file is missing, or a line is not a JSON object.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise ValueError(f"{place}: not valid JSON: {reason}; {_REMEDY}") from error
        yield place, _json_object(row, place)


def read_json_array(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for each item of a file that is one JSON array of objects.

    Raises:
        ValueError: The file is missing, not such an array, or cut off.
    """
    require_file(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        document = _JsonStream(path, stream)
        document.take("[", "expected a JSON array of objects")
        while not document.ends("]"):
            place = document.place
            yield place, _json_object(document.value(), place)


def read_json_members(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(place, key, value)`` for each member of a file that is one JSON object.

    Raises:
        ValueError: The file is missing, not a JSON object, or cut off.
    """
    require_file(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        document = _JsonStream(path, stream)
        document.take("{", "expected a JSON object")
        while not document.ends("}"):
            place, key = document.place, document.value()
            if not isinstance(key, str):
                raise ValueError(f"{place}: not valid JSON: expected a member's name, found {key}")
            document.take(":", "not valid JSON: expected ':' after a member's name")
            yield place, key, document.value()


def _json_object(value: Any, place: str) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected a JSON object, found {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class _JsonStream:
    """The members of one JSON array or object, decoded one by one from an open file."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self.path = path
        self._stream = stream
        self._text = ""
        self._position = 0
        self._line = 1
        self._first = True

    @property
    def place(self) -> str:
        """``file:line`` of what comes next."""
        self._skip_space()
        return f"{self.path}:{self._line}"

    def take(self, character: str, complaint: str) -> None:
        """Move past ``character``, which has to come next."""
        self._skip_space()
        if not self._text.startswith(character, self._position):
            raise ValueError(f"{self.place}: {complaint}, found {self._shown()}")
        self._position += 1

    def ends(self, bracket: str) -> bool:
        """Whether the next thing is the closing ``bracket``; else move past the comma."""
        self._skip_space()
        if self._text.startswith(bracket, self._position):
            self._position += 1
            self._skip_space()
            if self._position < len(self._text):
                raise ValueError(
                    f"{self.place}: not valid JSON: {self._shown()} follows the closing bracket"
                )
            return True
        if not self._first:
            self.take(",", f"not valid JSON: expected ',' or {bracket!r}")
        self._first = False
        return False

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Decode the next value."""
        place = self.place
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos + 64 > len(self._text)
                if not (is_cut and self._read_more()):
                    line = self._line + self._text.count("\n", self._position, error.pos)
                    raise ValueError(
                        f"{self.path}:{line}: not valid JSON: {error.msg}; {_REMEDY}"
                    ) from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{place}: not valid JSON: {error}") from error
            else:
                # A number may go on behind what has been read of the file: 12|.5, 1e+|3.
                if end + 3 <= len(self._text) or not self._read_more():
                    self._move_to(end)
                    return value

    def _skip_space(self) -> None:
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None
            self._move_to(match.end())
            if self._position < len(self._text) or not self._read_more():
                return

    def _move_to(self, position: int) -> None:
        self._line += self._text.count("\n", self._position, position)
        self._position = position

    def _read_more(self) -> bool:
        """Append as much as is kept, so that decoding again costs no more than once over.

        Returns: Whether there was more; if not, nothing has moved.
        """
        kept = self._text[self._position :]
        if len(kept) > MAX_MEMBER_CHARACTERS:
            raise ValueError(
                f"{self.path}:{self._line}: a member is longer than {MAX_MEMBER_CHARACTERS} "
                "characters; a quote or bracket before it may not be closed"
            )
        try:
            new = self._stream.read(max(_CHUNK_CHARACTERS, len(kept)))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path}:{self._line}: after this line stands the byte 0x"
                f"{error.object[error.start]:02x}, which is not UTF-8; convert the file (iconv -t "
                "UTF-8) or fetch it again"
            ) from error
        if new:
            self._text, self._position = kept + new, 0
        return bool(new)

    def _shown(self) -> str:
        if self._position >= len(self._text):
            return f"its end; {_REMEDY}"
        return repr(self._text[self._position : self._position + 20])
