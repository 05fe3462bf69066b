"""Annotation files in lines: every error names file, line and field, and the remedy.

Files are read as streams, so memory does not grow with them: of a CSV or JSON-lines file one row is
held at a time (a line has at most ``MAX_LINE_BYTES``, a text ``MAX_TEXT_CHARACTERS``), of a JSON
array or object one member. They are UTF-8, with or without a byte-order mark, with any line ends:
LF, CRLF, or CR alone. A damaged line is one malformed row, and the rows after it are read; see
:mod:`data_modules.skipped_rows` for what is malformed, what is only left out, and what ends the
reading at once.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from data_modules.files import Files
from data_modules.rows import MalformedRowError, Row
from data_modules.skipped_rows import MAX_TEXT_CHARACTERS, SkippedRows

MAX_LINE_BYTES = 8 * 2**20
"""A longer line is not a row: line ends are lost, or the file is not a text."""

MAX_LOST_LINE_BYTES = 8 * MAX_LINE_BYTES
"""A line that is longer than this is not one malformed row, but a file without line ends."""

# Of the csv module, for the whole process; its own limit is 131,072 characters.
csv.field_size_limit(MAX_TEXT_CHARACTERS)

_CHUNK_BYTES = 2**14  # 16 KiB
# After these errors of the csv module the rest of the file is inside of the row.
_NEVER_CLOSED = ("unexpected end of data", "field larger than field limit")


def read_csv_rows(
    files: Files, name: str | Path, required: Sequence[str], skipped: SkippedRows
) -> Iterator[Row]:
    """Yield each row of a CSV file with a header; values stay strings.

    The header drives: columns may come in any order and there may be more than the required ones.
    Nothing is ever read as missing: answers such as ``None`` and ``NA`` are texts. Blank rows, and
    blank cells at the end of a row that has more than the header, are what table programs leave.

    Args:
        files: The corpus' files.
        name: The file's name among them.
        required: Columns that the header must name.
        skipped: Counts malformed rows: lines that are not UTF-8, double quotes in a wrong position,
            rows that are longer or shorter than the header.

    Raises:
        ValueError: The file is missing or empty, a required column is missing or a column is there
            twice, a text is never closed, or the last row has no line end, so that its last text
            may be cut. Rows and messages are located by ``file:line``, with the line on which the
            row begins.
    """
    path = files.path(name)
    # The number of the last line read: a row may have several.
    number, last_line = 0, ""

    def decoded(numbered: tuple[int, bytes]) -> str:
        nonlocal number, last_line
        number, line = numbered
        last_line = decode_line(path, number, line)
        return last_line

    # Not a generator, which could not go on after a line that is not UTF-8.
    reader = csv.reader(map(decoded, read_raw_lines(files, name)), strict=True)
    header = _read_header(reader, f"{path}:1", required)
    while True:
        first = number + 1
        location = f"{path}:{first}"
        try:
            values = next(reader, None)
            if values is None:
                return
            if not any(value.strip() for value in values):
                continue
            # Nobody can tell a whole last row from one that is cut within its last text.
            if not last_line.endswith(("\n", "\r")):
                raise ValueError(
                    f"{location}: the last row has no line end: the file may be cut off within "
                    f"{values[-1]!r:.200}; fetch it again, or add a line end if the row is whole"
                )
            row = _csv_row(header, values, location)
        except csv.Error as error:
            malformed = _not_csv(error, location)
            if str(error).startswith(_NEVER_CLOSED):
                raise ValueError(str(malformed)) from error
            skipped.record_malformed(malformed, num_rows=number - first + 1)
        except MalformedRowError as error:
            skipped.record_malformed(error, num_rows=number - first + 1)
        else:
            yield row


def _read_header(reader: Iterator[list[str]], location: str, required: Sequence[str]) -> list[str]:
    try:
        header = [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise ValueError(str(_not_csv(error, location))) from error
    missing = [column for column in required if column not in header]
    if missing:
        raise ValueError(
            f"{location}: the header has no column {', '.join(map(repr, missing))}; expected "
            f"{', '.join(required)}; found {', '.join(header) or 'an empty file'}"
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise ValueError(f"{location}: the header names {', '.join(map(repr, twice))} twice")
    return header


def _csv_row(header: list[str], values: list[str], location: str) -> Row:
    if any(value.strip() for value in values[len(header) :]) or len(values) < len(header):
        raise MalformedRowError(
            location,
            f"expected {len(header)} columns ({', '.join(header)}), found {len(values)}; a text "
            "with a comma must stand in double quotes",
        )
    return Row(zip(header, values, strict=False), location)


def _not_csv(error: csv.Error, location: str) -> MalformedRowError:
    problem = f"not a valid CSV row: {error}; check the double quotes of this row and its line ends"
    return MalformedRowError(location, problem)


def read_lines(files: Files, name: str | Path) -> Iterator[tuple[int, str]]:
    """Yield ``(number, line)``, numbered from 1, each with its line end.

    Raises:
        ValueError: The file is missing, or a line is longer than ``MAX_LINE_BYTES``, not UTF-8, or
            holds a null byte.
    """
    for number, line in read_raw_lines(files, name):
        yield number, decode_line(files.path(name), number, line)


def read_raw_lines(files: Files, name: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number, line)``, numbered from 1, undecoded; for :func:`decode_line`.

    Of a line that is longer than ``MAX_LINE_BYTES`` only the beginning is kept.

    Raises:
        ValueError: The file is missing, or a line is longer than ``MAX_LOST_LINE_BYTES``.
    """
    with files.open(name) as stream:
        for number, line in enumerate(_split_lines(stream, files.path(name)), start=1):
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _split_lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines with their ends, each cut after ``MAX_LINE_BYTES``."""
    number, kept = 0, b""
    while chunk := stream.read(max(_CHUNK_BYTES, len(kept))):
        # The last one may go on in the next chunk, if only by the second half of CRLF.
        # Bytes part at LF, CR and CRLF only; a str would also part at form feeds and the like.
        *lines, kept = (kept + chunk).splitlines(keepends=True)
        for line in lines:
            yield line[: MAX_LINE_BYTES + 1]
        number += len(lines)
        if len(kept) > MAX_LOST_LINE_BYTES:
            raise ValueError(
                f"{path}:{number + 1}: the line is longer than {MAX_LOST_LINE_BYTES} bytes; a file "
                "of rows needs a line end after each"
            )
    if kept:
        yield kept[: MAX_LINE_BYTES + 1]


def decode_line(path: Path, number: int, line: bytes) -> str:
    """The text of one of :func:`read_raw_lines`.

    Raises:
        MalformedRowError: The line is longer than ``MAX_LINE_BYTES``, not UTF-8, or holds a null
            byte.
        ValueError: It ends in half a character, and the file with it: the file is cut off.
    """
    location = f"{path}:{number}"
    if len(line) > MAX_LINE_BYTES:
        problem = f"the line is longer than {MAX_LINE_BYTES} bytes"
        raise MalformedRowError(location, f"{problem}; a file of rows needs a line end after each")
    if b"\0" in line:
        problem = "the line holds a null byte: the file is damaged, or not UTF-8; fetch it again"
        raise MalformedRowError(location, problem)
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        # Any other line ends in its line end, so that half a character there is an error before it.
        if error.end == len(line):
            raise ValueError(
                f"{location}: the file ends in half a character: it is cut off; fetch it again"
            ) from error
        raise MalformedRowError(
            location,
            f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not "
            "UTF-8; convert the file (iconv -t UTF-8) or fetch it again",
        ) from error
