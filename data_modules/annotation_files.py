"""Annotation files, read strictly: every error names file, line and column, and the remedy."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_modules.index_cache import note_file


def read_csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(place, row)`` for each row of a CSV file with a header; values stay strings.

    The header drives: columns may come in any order and there may be more than the required ones.
    Nothing is ever read as missing: answers such as ``None`` and ``NA`` are texts.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        required: Columns that the header must name.

    Raises:
        ValueError: The file is missing or empty, a required column is missing, or a row is longer
            or shorter than the header. ``place`` and the messages have the form ``file:line``.
    """
    require_file(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            missing = [column for column in required if column not in header]
            if missing:
                raise ValueError(
                    f"{path}:1: the header has no column {', '.join(map(repr, missing))}; expected "
                    f"{', '.join(required)}; found {', '.join(header) or 'an empty file'}"
                )
            for values in reader:
                place = f"{path}:{reader.line_num}"
                if not values:
                    continue  # a blank line
                if len(values) != len(header):
                    raise ValueError(
                        f"{place}: expected {len(header)} columns ({', '.join(header)}), found "
                        f"{len(values)}; a text with a comma must stand in double quotes"
                    )
                yield place, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: not a valid CSV row: {error}") from error


def read_json(path: Path) -> Any:  # noqa: ANN401 - what the file holds is checked by the caller
    """Read one JSON document.

    Raises:
        ValueError: The file is missing or not valid JSON; the message has the line.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for each non-empty line of a file with one JSON object a line.

    Raises:
        ValueError: The file is missing, or a line is not a JSON object.
    """
    require_file(path)
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: not valid JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{place}: expected a JSON object, found {type(row).__name__}")
            yield place, row


def text_field(row: dict[str, Any], name: str, place: str) -> str:
    """The text under ``name``, stripped; the empty string where the field is null or absent.

    Raises:
        ValueError: The field holds something that is not a text.
    """
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{place}: field {name!r} must be a text, found {value!r}")
    return value.strip()


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
