"""Multiple-choice questions in rows of files: how an example is made of a row's fields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_modules.annotation_files import (
    check_span,
    id_field,
    is_nan_like,
    required_text,
    seconds_field,
)
from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from data_modules.table_files import Rows
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

Row = dict[str, Any]
_NUM_LOOKED_AT = 100
"""Rows by which it is decided whether a file hides its answers."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a benchmark keeps what an example needs; empty for what it has not."""

    rows: Callable[[Path, str, SkippedRows], Rows]
    """Yields ``(place, row)`` of a split, in the order of the file."""
    prepare: Callable[[Row, str], Row] = lambda row, place: row
    """Makes a row of the file one that has the fields below; may find it malformed."""
    check_absent: Callable[[Row, str], None] = lambda row, place: None
    """Called with a row whose video is not there; may leave it out."""
    id: str
    folders: tuple[str, ...]
    """Where the videos are: of several, in the first that is there."""
    media: tuple[str, ...]
    """A video's path below the folder, with fields of the row in braces: the first that is there.
    """
    cut_media: tuple[str, ...] = ()
    """Where there are, in place of whole videos, those that were cut to the row's span."""
    video: str
    question: str = "question"
    options: str = "options"
    option_text: str = ""
    """The text's field, where an option is an object."""
    answer: str = "answer"
    answer_form: AnswerForm
    question_type: str = ""
    """The type, with fields of the row in braces."""
    start: str = ""
    end: str = ""
    named_by: tuple[str, ...]
    """Fields of the row by which messages name it."""


def read_manifest(
    manifest: Manifest, name: str, root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one multiple-choice example a row of the benchmark ``name``.

    Options lose the blanks around them, and their labels (``A.``) where all have one. If the first
    rows have answers, a row without is malformed; if not, one with.

    Raises:
        ValueError: A file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    # Counted when the rows are read for good.
    uncounted = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    first_rows = islice(manifest.rows(Path(root), split, uncounted), _NUM_LOOKED_AT)
    has_answers = any(row.get(manifest.answer) is not None for _, row in first_rows)
    videos = VideoFolder(*(Path(root, folder) for folder in manifest.folders))

    def make(place: str, row: Row) -> Iterator[Example]:
        row = manifest.prepare(row, place)
        question = required_text(row, manifest.question, place)
        if is_nan_like(question):
            raise MalformedRowError(place, f"field {manifest.question!r} is {question!r}")
        options = option_texts(_option_list(row, manifest), manifest.options, place)
        index = right_option(
            row.get(manifest.answer), options, manifest.answer_form, manifest.answer, place
        )
        if has_answers != (index is not None):
            raise MalformedRowError(
                place,
                f"field {manifest.answer!r} is "
                + ("missing or empty" if has_answers else "there")
                + ", in other rows it is not",
            )
        start = seconds_field(row, manifest.start, place) if manifest.start else None
        if start == 0.0 and str(row[manifest.start]).lstrip().startswith("-"):
            skipped.remark(place, "a span begins before the video: it is taken from its start")
        end = seconds_field(row, manifest.end, place) if manifest.end else None
        check_span(start, end, place)
        row = row | {manifest.video: id_field(row, manifest.video, place)}
        media = videos.first_there(*(_filled(path, row) for path in manifest.media))
        if media is None and manifest.cut_media:
            media = videos.first_there(*(_filled(path, row) for path in manifest.cut_media))
            start, end = (start, end) if media is None else (None, None)
        if media is None:
            manifest.check_absent(row, place)
            media = videos.find(_filled(manifest.media[0], row))
        response = "" if index is None else options[index]
        yield Example(
            id=f"{name}:{split}:{id_field(row, manifest.id, place)}",
            corpus=name,
            media=media,
            video_id=row[manifest.video],
            start_seconds=start,
            end_seconds=end,
            prompt=multiple_choice_prompt(question, options),
            response=response,
            options=options,
            answer_index=index,
            answers=(response,) if response else (),
            question_type=_filled(manifest.question_type, row),
            meta={"question": question},
        )

    rows = manifest.rows(Path(root), split, skipped)
    yield from examples_of(rows, make, skipped, named_by=manifest.named_by, unique=True)


class _Fields(dict[str, Any]):
    """Of a row; one that it has not is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _filled(pattern: str, row: Row) -> str:
    return pattern.format_map(_Fields(row))


def _option_list(row: Row, manifest: Manifest) -> object:
    options = row.get(manifest.options)
    if not (manifest.option_text and isinstance(options, list)):
        return options
    return [
        option.get(manifest.option_text) if isinstance(option, dict) else option
        for option in options
    ]
