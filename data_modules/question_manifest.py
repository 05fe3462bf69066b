"""Multiple-choice questions in rows of files: how an example is made of a row's fields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from data_modules.example_kinds import choice_example
from data_modules.files import Files
from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example

_NUM_LOOKED_AT = 100
"""Rows by which it is decided whether a file hides its answers."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of a benchmark, and the names of their fields."""

    rows: Callable[[Files, str, SkippedRows], Iterator[Row]]
    """Yields the rows of a split, in the order of the file."""
    id: str
    video: str
    folders: tuple[str, ...]
    """Where the videos are: of several, in the first that is there."""
    media: Callable[[VideoFolder, Row, str], tuple[str, bool]] = lambda videos, row, video: (
        videos.find(video),
        False,
    )
    """From a row and its video's id to the path, and whether it is cut to the row's span."""
    options: str = "options"
    answer: str = "answer"
    answer_form: AnswerForm
    question_type: tuple[str, ...] = ()
    """Fields that make up the type, joined by ``/``."""
    has_span: bool = False
    """True if rows have ``start`` and ``end``."""
    named_by: tuple[str, ...] = ()
    """Fields by which messages name a row, if not by its id."""


def read_manifest(
    manifest: Manifest, name: str, files: Files, split: str, skipped: SkippedRows
) -> Iterator[Example]:
    """Yield one multiple-choice example a row of the benchmark ``name``.

    Options lose the blanks around them, and their labels (``A.``) where all have one. If the first
    rows have answers, a row without is malformed; if not, one with.

    Raises:
        ValueError: A file is missing or wrong as a whole.
    """
    # Does the file hide its answers? Counted when the rows are read for good.
    first = islice(manifest.rows(files, split, SkippedRows.uncounted()), _NUM_LOOKED_AT)
    has_answers = any(row.get(manifest.answer) is not None for row in first)
    videos = VideoFolder(files, *manifest.folders)

    def make(row: Row) -> Iterator[Example]:
        question = row.question()
        options = option_texts(row, manifest.options)
        index = right_option(row, manifest.answer, options, manifest.answer_form)
        row.check_answered(manifest.answer, index is not None, in_others=has_answers)
        span = row.span() if manifest.has_span else (None, None)
        # The span has 0 for a negative start by now: only the field itself shows that it was less.
        if span[0] == 0.0 and str(row["start"]).lstrip().startswith("-"):
            remark = "a span begins before the video: it is taken from its start"
            skipped.remark(row.location, remark)
        video_id = row.id(manifest.video)
        # A video that was cut to the span is shown whole.
        media, is_cut = manifest.media(videos, row, video_id)
        yield choice_example(
            question,
            options,
            index,
            id=f"{name}:{split}:{row.id(manifest.id)}",
            media=media,
            video_id=video_id,
            span=(None, None) if is_cut else span,
            question_type="/".join(map(row.required, manifest.question_type)),
        )

    rows = manifest.rows(files, split, skipped)
    yield from examples_of(
        rows, make, skipped, named_by=manifest.named_by or (manifest.id,), unique=True
    )
