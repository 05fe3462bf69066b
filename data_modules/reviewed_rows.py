"""Rows of an instruction set after the reviews that lie beside them."""

from collections.abc import Iterable, Iterator

from data_modules.files import Files
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows
from vidreason.teacher.reviews import (
    EDITED_DIFFERENTLY,
    REVIEWS_FOLDER,
    Reviews,
    read_reviews,
)

REJECTED = "rejected by a reviewer"
CONTRADICTED = "edited differently by two reviewers, and not adjudicated"
EDITED = "taught as a reviewer edited it"
STALE = "a review is of another version of the row, and was not applied: review it again"


def reviewed_rows(files: Files, rows: Iterable[Row], skipped: SkippedRows) -> Iterator[Row]:
    """Yield rows as their reviews leave them, by the rule of :mod:`vidreason.teacher.reviews`.

    Rejected rows are left out and counted; edits, and reviews of another version of a row, which
    do nothing, are counted as remarks. Without reviews nothing is changed.

    Args:
        files: The set's files, with reviews in ``reviews/*.jsonl``.
        rows: Of a split.
        skipped: Counts.

    Raises:
        ValueError: A review file is of another form; the message names file, line and field.
    """
    # Each is recorded, so that an index knows when one has changed.
    paths = [path for path in files.glob(REVIEWS_FOLDER, "*.jsonl") if files.exists(path)]
    reviews = Reviews(review for path in paths for review in read_reviews(path))
    if not paths:
        yield from rows
        return
    for row in rows:
        changed, ruling, num_stale = reviews.apply(row)
        if num_stale:
            skipped.remark(row.location, STALE)
        if changed is None:
            assert ruling is not None
            is_contradicted = ruling.reason == EDITED_DIFFERENTLY
            skipped.record(row.location, CONTRADICTED if is_contradicted else REJECTED)
            continue
        if ruling is not None and ruling.draft is not None:
            skipped.remark(row.location, EDITED)
        yield Row(changed, row.location)
