"""Annotation files, read strictly: every error names file, line and field, and the remedy.

Files are read as streams, so memory does not grow with them: of a CSV or JSON-lines file one row is
held at a time (a line has at most ``MAX_LINE_BYTES``), of a JSON array or object one member. They
are UTF-8, with or without a byte-order mark, with any line ends. For what is an error and what is
only left out see :mod:`data_modules.skipped_rows`.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_modules.index_cache import note_file

MAX_LINE_BYTES = 8 * 2**20
"""A longer line is not a row: line ends are lost, or the file is not a text."""

MAX_TEXT_CHARACTERS = 2**20
"""A longer text is no question, answer or caption: something was not closed."""

_NAN_LIKE = {"", "none", "nan", "null", "n/a", "<na>", "#n/a", "undefined"}
# What a table program makes of an id that is all digits: 1053841541.0, 1.05384E+09.
_NUMBER_LIKE_ID = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(place, row)`` for each row of a CSV file with a header; values stay strings.

    The header drives: columns may come in any order and there may be more than the required ones.
    Nothing is ever read as missing: answers such as ``None`` and ``NA`` are texts.

    Args:
        path: The file.
        required: Columns that the header must name.

    Raises:
        ValueError: The file is missing or empty, a required column is missing or a column is there
            twice, a row is longer or shorter than the header, or the last row has no line end, so
            that its last text may be cut. ``place`` and the messages have the form ``file:line``,
            with the line on which the row begins.
    """
    last_line = ""

    def lines() -> Iterator[str]:
        nonlocal last_line
        for _, last_line in read_lines(path):
            yield last_line

    reader = csv.reader(lines(), strict=True)
    place = f"{path}:1"
    try:
        header = next(reader, [])
        _check_header(header, required, place)
        while True:
            place = f"{path}:{reader.line_num + 1}"
            values = next(reader, None)
            if values is None:
                return
            if not values:
                continue  # a blank line
            if not last_line.endswith(("\n", "\r")):
                raise ValueError(
                    f"{place}: the last row has no line end: the file may be cut off within "
                    f"{values[-1]!r:.200}; fetch it again, or add a line end if the "
                    "row is whole"
                )
            if len(values) != len(header):
                raise ValueError(
                    f"{place}: expected {len(header)} columns ({', '.join(header)}), found "
                    f"{len(values)}; a text with a comma must stand in double quotes"
                )
            yield place, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{place}: not a valid CSV row: {error}; check the double quotes of this row and its "
            "line ends"
        ) from error


def _check_header(header: list[str], required: Sequence[str], place: str) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        raise ValueError(
            f"{place}: the header has no column {', '.join(map(repr, missing))}; expected "
            f"{', '.join(required)}; found {', '.join(header) or 'an empty file'}"
        )
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise ValueError(f"{place}: the header names {', '.join(map(repr, twice))} twice")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(number, line)``, numbered from 1, each with its line end.

    Raises:
        ValueError: The file is missing, or a line is longer than ``MAX_LINE_BYTES``, not UTF-8, or
            holds a null byte.
    """
    require_file(path)
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(
                    f"{path}:{number}: the line is longer than {MAX_LINE_BYTES} bytes; a file of "
                    "rows needs a line end after each"
                )
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if b"\0" in line:
                raise ValueError(
                    f"{path}:{number}: the line holds a null byte: the file is damaged, or not "
                    "UTF-8; fetch it again"
                )
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}:{number}: byte {error.start + 1} of the line is 0x"
                    f"{line[error.start]:02x}, which is not UTF-8; convert the file (iconv -t "
                    "UTF-8) or fetch it again"
                ) from error


def text_field(row: dict[str, Any], name: str, place: str) -> str:
    """The text under ``name``, stripped; the empty string where the field is null or absent.

    Raises:
        ValueError: The field holds something that is not a text, or not a whole one.
    """
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{place}: field {name!r} must be a text, found {value!r:.200}")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ValueError(
            f"{place}: field {name!r} has {len(value)} characters, more than {MAX_TEXT_CHARACTERS}"
        )
    if _SURROGATE.search(value):
        raise ValueError(
            f"{place}: field {name!r} holds half a surrogate pair, which is no character: the text "
            "was cut"
        )
    return value.strip()


def required_text(row: dict[str, Any], name: str, place: str) -> str:
    """The text under ``name``, stripped.

    Raises:
        ValueError: The field is missing, empty or not a text.
    """
    text = text_field(row, name, place)
    if not text:
        raise ValueError(f"{place}: field {name!r} is missing or empty; found {sorted(row)}")
    return text


def id_field(row: dict[str, Any], name: str, place: str) -> str:
    """The id under ``name``; a whole number is an id too.

    Raises:
        ValueError: The field is missing, empty, or what a table program leaves of an id: ``nan``,
            ``None``, ``1053841541.0``.
    """
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = required_text(row, name, place)
    if is_nan_like(text) or _NUMBER_LIKE_ID.fullmatch(text):
        raise ValueError(
            f"{place}: field {name!r} is {text!r}, which is no id but what a table program makes "
            "of one; write the file again with ids as texts (pandas: dtype=str, "
            "keep_default_na=False)"
        )
    return text


def seconds_field(row: dict[str, Any], name: str, place: str) -> float | None:
    """The time under ``name`` in seconds from the video's start, or None where it is null.

    Raises:
        ValueError: The field holds something else than a number of at least 0.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(
            f"{place}: field {name!r} must be seconds from the video's start, found {value!r:.200}"
        )
    return float(value)


def check_span(start_seconds: float | None, end_seconds: float | None, place: str) -> None:
    """Raise a ``ValueError`` unless the span ends after it starts."""
    if end_seconds is not None and end_seconds <= (start_seconds or 0.0):
        raise ValueError(
            f"{place}: the span ends at {end_seconds} s, which is not after its start at "
            f"{start_seconds or 0.0} s"
        )


def is_nan_like(text: str) -> bool:
    """Whether ``text`` is empty or what programs write for nothing: ``nan``, ``None``, ``null``.

    Only for fields in which such a word cannot be meant: ``None`` is an answer, but no caption.
    """
    return text.strip().casefold() in _NAN_LIKE


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
