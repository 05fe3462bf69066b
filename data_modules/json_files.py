"""JSON annotation files, read as streams; see :mod:`data_modules.annotation_files`.

``NaN``, which Python writes for a missing number though JSON has no such value, is read as null.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from data_modules.annotation_files import decode_line, read_lines, read_raw_lines, require_file
from data_modules.skipped_rows import MalformedRowError, SkippedRows

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


def read_json_lines(
    path: Path, skipped: SkippedRows | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for each non-empty line of a file with one JSON object a line.

    Args:
        path: The file.
        skipped: Counts malformed rows: lines that are not UTF-8, or not a JSON object. None to
            raise the first of them.

    Raises:
        ValueError: The file is missing, cut off in its last line, or one JSON document over several
            lines.
    """
    skipped = SkippedRows() if skipped is None else skipped
    is_first = True
    for number, line in read_raw_lines(path):
        place = f"{path}:{number}"
        try:
            text = decode_line(path, number, line)
            if text.isspace():
                continue
            if is_first and text.strip() in ("[", "{"):
                raise ValueError(
                    f"{place}: expected one JSON object a line, found one document over several "
                    "lines"
                )
            is_first = False
            row = _json_object(_decoded_line(text, place), place)
        except MalformedRowError as error:
            skipped.record_malformed(error)
        else:
            yield place, row


def _decoded_line(text: str, place: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        problem = f"not valid JSON: {reason}; {_REMEDY}"
        if not text.endswith(("\n", "\r")):
            raise ValueError(f"{place}: {problem}") from error
        raise MalformedRowError(place, problem) from error


def read_json_array(
    path: Path, skipped: SkippedRows | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for each item of a file that is one JSON array of objects.

    Args:
        path: The file.
        skipped: Counts malformed rows: items that are no objects. None to raise the first of them.

    Raises:
        ValueError: The file is missing, not such an array, or cut off.
    """
    skipped = SkippedRows() if skipped is None else skipped
    require_file(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        document = _JsonStream(path, stream)
        document.take("[", "expected a JSON array of objects")
        while not document.ends("]"):
            place = document.place
            try:
                row = _json_object(document.value(), place)
            except MalformedRowError as error:
                skipped.record_malformed(error)
            else:
                yield place, row


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
        raise MalformedRowError(place, f"expected a JSON object, found {type(value).__name__}")
    return value


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)


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
