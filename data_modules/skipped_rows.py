"""Rows that a reader leaves out are counted by cause, and written down where they stood.

What is left out and what is an error is one rule for all readers. A row that is well formed but has
nothing to teach (no caption, a download that failed, an image where a video is needed) is skipped.
So are one video's rows when a file that holds only that video's data is damaged, just as those of
an unreadable video are, and what lies behind the damaged place of a tar shard. Damage in an
annotation file is a ``ValueError``, because nobody can tell how far it reaches: the file has to be
repaired once, before a run reads it. ``nan``, ``None`` and the like are errors as ids, questions
and times, nothing as captions, and texts as answers and options, where they can be meant.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

logger = logging.getLogger(__name__)

NUM_SHOWN = 3
"""How many places of each cause are kept for the summary."""


class SkippedRow(NamedTuple):
    """One row that gave no example."""

    place: str
    """``file:line``, or the member of a tar file."""
    cause: str
    """The same words for every row left out for the same reason."""


class SkippedCause(NamedTuple):
    """All rows that were left out for one reason."""

    cause: str
    num_rows: int
    first_places: list[str]


class SkippedRows:
    """Counts the rows of one corpus that its reader left out.

    The first row of each cause is logged as a warning when it is met.

    Args:
        path: A file that gets one JSON object a row (``place``, ``cause``), written anew; None to
            count without writing.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.causes: Counter[str] = Counter()
        self.first_places: dict[str, list[str]] = {}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("")

    @property
    def num_skipped(self) -> int:
        """Rows left out so far."""
        return self.causes.total()

    def record(self, place: str, cause: str) -> None:
        """Count the row at ``place``."""
        if cause not in self.causes:
            logger.warning("%s: left out: %s (further such rows are only counted)", place, cause)
        self.causes[cause] += 1
        places = self.first_places.setdefault(cause, [])
        if len(places) < NUM_SHOWN:
            places.append(place)
        if self.path is not None:
            row = json.dumps(SkippedRow(place, cause)._asdict(), ensure_ascii=False)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(row + "\n")

    def summary(self) -> str:
        """The causes, the most frequent first, with their first places."""
        return "; ".join(
            f"{count} x {cause}, such as {', '.join(self.first_places[cause])}"
            for cause, count in self.causes.most_common()
        )

    def as_summary(self) -> list[SkippedCause]:
        """What :meth:`from_summary` makes the same counts of, for a JSON file."""
        return [
            SkippedCause(cause, count, self.first_places[cause])
            for cause, count in self.causes.items()
        ]

    @classmethod
    def from_summary(cls, causes: Iterable[Sequence[Any]]) -> Self:
        """The counts that :meth:`as_summary` has told, read from a JSON file."""
        skipped = cls()
        for cause, count, places in causes:
            skipped.causes[cause] = count
            skipped.first_places[cause] = places
        return skipped
