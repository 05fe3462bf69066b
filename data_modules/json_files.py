"""JSON annotation files, read as streams; see :mod:`data_modules.annotation_files`.

``NaN``, which Python writes for a missing number though JSON has no such value, is read as null.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from data_modules.annotation_files import decode_line, read_raw_lines
from data_modules.files import Files
from data_modules.rows import MalformedRowError, Row
from data_modules.skipped_rows import SkippedRows

MAX_MEMBER_CHARACTERS = 64 * 2**20
"""The largest member of an array or object: all narrations of a day-long video stay far below."""

_REMEDY = "the file may be cut off, or edited here: fetch it again"
_CHUNK_CHARACTERS = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
# Infinity stays a number: as a time it is refused with its row, by Row.check_finite.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else float(name))


def read_json_lines(files: Files, name: str | Path, skipped: SkippedRows) -> Iterator[Row]:
    """Yield each line of a file with one JSON object a line, but for empty ones.

    Args:
        files: The corpus' files.
        name: The file's name among them.
        skipped: Counts malformed rows: lines that are not UTF-8, or not a JSON object.

    Raises:
        ValueError: The file is missing, cut off in its last line, or one JSON document over several
            lines.
    """
    path = files.path(name)
    is_first = True
    for number, line in read_raw_lines(files, name):
        location = f"{path}:{number}"
        try:
            text = decode_line(path, number, line)
            if text.isspace():
                continue
            # An indented document begins so, and each of its lines would be a malformed row.
            if is_first and text.strip() in ("[", "{"):
                raise ValueError(
                    f"{location}: expected one JSON object a line, found one document over several "
                    "lines"
                )
            is_first = False
            row = _json_row(_decoded_line(text, location), location)
        except MalformedRowError as error:
            skipped.record_malformed(error)
        else:
            yield row


def _decoded_line(text: str, location: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        # A last line without a line end was cut off, which is no fault of one row.
        if not text.endswith(("\n", "\r")):
            raise _not_json(location, error) from error
        raise MalformedRowError(location, _problem(error)) from error


def read_json_array(files: Files, name: str | Path, skipped: SkippedRows) -> Iterator[Row]:
    """Yield each item of a file that is one JSON array of objects.

    Args:
        files: The corpus' files.
        name: The file's name among them.
        skipped: Counts malformed rows: items that are no objects.

    Raises:
        ValueError: The file is missing, not such an array, or cut off.
    """
    with _JsonStream(files, name) as document:
        for location in document.members("[", "]", "expected a JSON array of objects"):
            try:
                row = _json_row(document.value(), location)
            except MalformedRowError as error:
                skipped.record_malformed(error)
            else:
                yield row


def read_json_members(files: Files, name: str | Path) -> Iterator[Row]:
    """Yield each member of a file that is one JSON object, as a row of ``name`` and ``value``.

    Raises:
        ValueError: The file is missing, not a JSON object, or cut off.
    """
    with _JsonStream(files, name) as document:
        for location in document.members("{", "}", "expected a JSON object"):
            key = document.value()
            if not isinstance(key, str):
                raise ValueError(
                    f"{location}: not valid JSON: expected a member's name, found {key}"
                )
            document.take(":", "not valid JSON: expected ':' after a member's name")
            yield Row({"name": key, "value": document.value()}, location)


def read_json_object(files: Files, name: str | Path) -> dict[str, Any]:
    """Read a file that is one JSON object, whole: for small files such as id maps.

    Raises:
        ValueError: As :func:`read_json_members`.
    """
    return {member["name"]: member["value"] for member in read_json_members(files, name)}


def _json_row(value: Any, location: str) -> Row:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        raise MalformedRowError(location, f"expected a JSON object, found {type(value).__name__}")
    return Row(value, location)


def _problem(error: Exception) -> str:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return f"not valid JSON: {reason}; {_REMEDY}"


def _not_json(location: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{location}: {_problem(error)}")


class _JsonStream:
    """The members of one JSON array or object, decoded one by one from an open file.

    Not ijson: it has no NaN, and keeps the path of every level, so that a file of 100,000 opening
    brackets takes gigabytes.
    """

    def __init__(self, files: Files, name: str | Path) -> None:
        self._path = files.path(name)
        self._stream = io.TextIOWrapper(files.open(name), "utf-8-sig", newline="")
        self._text = ""
        self._position = 0
        self._line = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def location(self) -> str:
        """``file:line`` of what comes next."""
        self._next_character()
        return f"{self._path}:{self._line}"

    def members(self, opening: str, closing: str, expected: str) -> Iterator[str]:
        """Yield the location of each member, which has to be read before the next."""
        self.take(opening, expected)
        is_first = True
        while self._next_character() != closing:
            if not is_first:
                self.take(",", f"not valid JSON: expected ',' or {closing!r}")
            is_first = False
            yield self.location
        self._position += 1
        if self._next_character():
            raise ValueError(
                f"{self.location}: not valid JSON: {self._shown()} follows the closing bracket"
            )

    def take(self, character: str, complaint: str) -> None:
        """Move past ``character``, which has to come next."""
        if self._next_character() != character:
            raise ValueError(f"{self.location}: {complaint}, found {self._shown()}")
        self._position += 1

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Decode the next value."""
        location = self.location
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # A value that goes on after what was read of the file is no error yet.
                is_cut = error.msg.startswith("Unterminated") or error.pos + 64 > len(self._text)
                if not (is_cut and self._read_more()):
                    line = self._line + self._text.count("\n", self._position, error.pos)
                    raise _not_json(f"{self._path}:{line}", error) from error
            except (ValueError, RecursionError) as error:  # too many digits, or levels
                raise _not_json(location, error) from error
            else:
                # A number may go on after what has been read of the file: 12|.5, 1e+|3.
                if end + 3 <= len(self._text) or not self._read_more():
                    self._move_to(end)
                    return value

    def _next_character(self) -> str:
        """The next character after space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None
            self._move_to(match.end())
            if self._position < len(self._text) or not self._read_more():
                return self._text[self._position : self._position + 1]

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
                f"{self._path}:{self._line}: a member is longer than {MAX_MEMBER_CHARACTERS} "
                "characters; a quote or bracket before it may not be closed"
            )
        try:
            new = self._stream.read(max(_CHUNK_CHARACTERS, len(kept)))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self._path}:{self._line}: after this line stands the byte 0x"
                f"{error.object[error.start]:02x}, which is not UTF-8; convert the file (iconv -t "
                "UTF-8) or fetch it again"
            ) from error
        if new:
            self._text, self._position = kept + new, 0
        return bool(new)

    def _shown(self) -> str:
        shown = self._text[self._position : self._position + 20]
        return repr(shown) if shown else f"its end; {_REMEDY}"
