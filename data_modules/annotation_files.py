"""Annotation files: every error names file, line and field, and the remedy.

Files are read as streams, so memory does not grow with them: of a CSV or JSON-lines file one row is
held at a time (a line has at most ``MAX_LINE_BYTES``, a text ``MAX_TEXT_CHARACTERS``), of a JSON
array or object one member. They are UTF-8, with or without a byte-order mark, with any line ends:
LF, CRLF, or CR alone. A damaged line is one malformed row, and the rows after it are read; see
:mod:`data_modules.skipped_rows` for what is malformed, what is only left out, and what ends the
reading at once.
"""

import codecs
import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from data_modules.index_cache import note_file
from data_modules.skipped_rows import MalformedRowError, SkippedRows, UnusableRowError

MAX_LINE_BYTES = 8 * 2**20
"""A longer line is not a row: line ends are lost, or the file is not a text."""

MAX_LOST_LINE_BYTES = 8 * MAX_LINE_BYTES
"""A line that is longer than this is not one malformed row, but a file without line ends."""

MAX_TEXT_CHARACTERS = 2**20
"""A longer text is no question, answer or caption: something was not closed."""

MAX_SECONDS = 1e9
"""A time beyond this is no time in a video: a date, or a number of frames."""

# Of the csv module, for the whole process; its own limit is 131,072 characters.
csv.field_size_limit(MAX_TEXT_CHARACTERS)

_CHUNK_BYTES = 2**14
_NAN_LIKE = {"", "none", "nan", "null", "n/a", "<na>", "#n/a", "undefined"}
# What a table program makes of an id that is all digits: 1053841541.0, 1.05384E+09.
_NUMBER_LIKE_ID = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# After these errors of the csv module the rest of the file is inside of the row.
_NEVER_CLOSED = ("unexpected end of data", "field larger than field limit")


def read_csv_rows(
    path: Path, required: Sequence[str], skipped: SkippedRows | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(place, row)`` for each row of a CSV file with a header; values stay strings.

    The header drives: columns may come in any order and there may be more than the required ones.
    Nothing is ever read as missing: answers such as ``None`` and ``NA`` are texts. Blank rows, and
    blank cells at the end of a row that has more than the header, are what table programs leave.

    Args:
        path: The file.
        required: Columns that the header must name.
        skipped: Counts malformed rows: lines that are not UTF-8, double quotes in a wrong location,
            rows that are longer or shorter than the header. None to raise the first of them.

    Raises:
        ValueError: The file is missing or empty, a required column is missing or a column is there
            twice, a text is never closed, or the last row has no line end, so that its last text
            may be cut. ``place`` and the messages have the form ``file:line``, with the line on
            which the row begins.
    """
    skipped = SkippedRows() if skipped is None else skipped
    number, last_line = 0, ""

    def decoded(numbered: tuple[int, bytes]) -> str:
        nonlocal number, last_line
        number, line = numbered
        last_line = decode_line(path, number, line)
        return last_line

    # Not a generator, which could not go on after a line that is not UTF-8.
    reader = csv.reader(map(decoded, read_raw_lines(path)), strict=True)
    header = _read_header(reader, path, required)
    while True:
        first = number + 1
        place = f"{path}:{first}"
        try:
            values = next(reader, None)
            if values is None:
                return
            if not any(value.strip() for value in values):
                continue
            if not last_line.endswith(("\n", "\r")):
                raise ValueError(
                    f"{place}: the last row has no line end: the file may be cut off within "
                    f"{values[-1]!r:.200}; fetch it again, or add a line end if the "
                    "row is whole"
                )
            row = _csv_row(header, values, place)
        except csv.Error as error:
            malformed = _not_csv(error, place)
            if str(error).startswith(_NEVER_CLOSED):
                raise ValueError(str(malformed)) from error
            skipped.record_malformed(malformed, num_rows=number - first + 1)
        except MalformedRowError as error:
            skipped.record_malformed(error, num_rows=number - first + 1)
        else:
            yield place, row


def _read_header(reader: Iterator[list[str]], path: Path, required: Sequence[str]) -> list[str]:
    place = f"{path}:1"
    try:
        header = [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise ValueError(str(_not_csv(error, place))) from error
    missing = [column for column in required if column not in header]
    if missing:
        raise ValueError(
            f"{place}: the header has no column {', '.join(map(repr, missing))}; expected "
            f"{', '.join(required)}; found {', '.join(header) or 'an empty file'}"
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise ValueError(f"{place}: the header names {', '.join(map(repr, twice))} twice")
    return header


def _csv_row(header: list[str], values: list[str], place: str) -> dict[str, str]:
    if any(value.strip() for value in values[len(header) :]) or len(values) < len(header):
        raise MalformedRowError(
            place,
            f"expected {len(header)} columns ({', '.join(header)}), found {len(values)}; a text "
            "with a comma must stand in double quotes",
        )
    return dict(zip(header, values, strict=False))


def _not_csv(error: csv.Error, place: str) -> MalformedRowError:
    return MalformedRowError(
        place,
        f"not a valid CSV row: {error}; check the double quotes of this row and its line ends",
    )


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(number, line)``, numbered from 1, each with its line end.

    Raises:
        ValueError: The file is missing, or a line is longer than ``MAX_LINE_BYTES``, not UTF-8, or
            holds a null byte.
    """
    for number, line in read_raw_lines(path):
        yield number, decode_line(path, number, line)


def read_raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number, line)``, numbered from 1, undecoded; for :func:`decode_line`.

    Of a line that is longer than ``MAX_LINE_BYTES`` only the beginning is kept.

    Raises:
        ValueError: The file is missing, or a line is longer than ``MAX_LOST_LINE_BYTES``.
    """
    require_file(path)
    with path.open("rb") as stream:
        for number, line in enumerate(_split_lines(stream, path), start=1):
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _split_lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines with their ends, each cut behind ``MAX_LINE_BYTES``."""
    number, kept = 0, b""
    while chunk := stream.read(max(_CHUNK_BYTES, len(kept))):
        # The last one may go on in the next chunk, if only by the second half of CRLF.
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
    place = f"{path}:{number}"
    if len(line) > MAX_LINE_BYTES:
        raise MalformedRowError(
            place,
            f"the line is longer than {MAX_LINE_BYTES} bytes; a file of rows needs a line end "
            "after each",
        )
    if b"\0" in line:
        raise MalformedRowError(
            place,
            "the line holds a null byte: the file is damaged, or not UTF-8; fetch it again",
        )
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if error.end == len(line):
            raise ValueError(
                f"{place}: the file ends in half a character: it is cut off; fetch it again"
            ) from error
        raise MalformedRowError(
            place,
            f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not "
            "UTF-8; convert the file (iconv -t UTF-8) or fetch it again",
        ) from error


def text_field(row: dict[str, Any], name: str, place: str) -> str:
    """The text under ``name``, stripped; the empty string where the field is null or absent.

    Raises:
        MalformedRowError: The field holds something that is not a text, or not a whole one.
    """
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedRowError(place, f"field {name!r} must be a text, found {value!r:.200}")
    check_text(value, name, place)
    return value.strip()


def check_text(text: str, name: str, place: str) -> None:
    """Raise a :class:`MalformedRowError` for a text that is too long or not whole."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise MalformedRowError(
            place, f"field {name!r} has {len(text)} characters, more than {MAX_TEXT_CHARACTERS}"
        )
    if _SURROGATE.search(text):
        raise MalformedRowError(
            place,
            f"field {name!r} holds half a surrogate pair, which is no character: the text was cut",
        )


def required_text(row: dict[str, Any], name: str, place: str) -> str:
    """The text under ``name``, stripped.

    Raises:
        MalformedRowError: The field is missing, empty or not a text.
    """
    text = text_field(row, name, place)
    if not text:
        raise MalformedRowError(
            place, f"field {name!r} is missing or empty; found {sorted(row)!r:.200}"
        )
    return text


def id_field(row: dict[str, Any], name: str, place: str) -> str:
    """The id under ``name``; a whole number is an id too.

    Raises:
        MalformedRowError: The field is missing, empty, or what a table program leaves of an id:
            ``nan``, ``None``, ``1053841541.0``.
    """
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = required_text(row, name, place)
    if is_nan_like(text) or _NUMBER_LIKE_ID.fullmatch(text):
        raise MalformedRowError(
            place,
            f"field {name!r} is {text!r}, which is no id but what a table program makes of one; "
            "write the file again with ids as texts (pandas: dtype=str, keep_default_na=False)",
        )
    return text


def seconds_field(row: dict[str, Any], name: str, place: str) -> float | None:
    """The time under ``name`` in seconds from the video's start; None where there is none.

    A time before the start, as rounding leaves some, is the start. A text that is a number is read
    as one; an empty one, ``nan`` and the like are none.

    Raises:
        MalformedRowError: The field holds something else than a number.
        UnusableRowError: It is infinite, or no number in the sense of arithmetic.
    """
    value = row.get(name)
    if value is None or (isinstance(value, str) and is_nan_like(value)):
        return None
    check_finite(value, place)
    seconds = parse_seconds(value)
    if seconds is None:
        raise MalformedRowError(
            place, f"field {name!r} must be seconds from the video's start, found {value!r:.200}"
        )
    return seconds


def parse_seconds(value: object) -> float | None:
    """A time in seconds, not before 0; None where ``value`` is no finite number, nor its text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(max(value, 0)) if abs(value) < MAX_SECONDS else None


def check_finite(value: object, place: str) -> None:
    """Raise an :class:`UnusableRowError` for a time that is infinite or NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableRowError(place, "its span is no number of seconds")


def check_span(start_seconds: float | None, end_seconds: float | None, place: str) -> None:
    """Raise an :class:`UnusableRowError` unless the span ends after it starts."""
    if end_seconds is None or end_seconds > (start_seconds or 0.0):
        return
    is_empty = end_seconds == (start_seconds or 0.0)
    raise UnusableRowError(
        place, "its span is empty" if is_empty else "its span ends before it starts"
    )


def is_nan_like(text: str) -> bool:
    """Whether ``text`` is empty or what programs write for nothing: ``nan``, ``None``, ``null``.

    Only for fields in which such a word cannot be meant: ``None`` is an answer, but no caption.
    """
    return text.strip().casefold() in _NAN_LIKE


def first_file(path: Path, *others: Path) -> Path:
    """The first of some files that is there, or else ``path``."""
    paths = (path, *others)
    for one in paths:
        note_file(one)
    return next((one for one in paths if one.is_file()), path)


def require_file(path: Path) -> None:
    """Raise a ``ValueError`` that shows what the folder holds unless ``path`` is a file.

    Every annotation file is looked at through here, so that an index made from it knows it.
    """
    note_file(path)
    if path.is_file():
        return
    folder = path.parent
    if not folder.is_dir():
        raise ValueError(f"there is no file {path}: the folder {folder} does not exist")
    beside = sorted(entry.name for entry in folder.iterdir())[:8]
    raise ValueError(
        f"there is no file {path}; the folder holds {', '.join(beside) or 'nothing'}: check the "
        "corpus' root and split"
    )
