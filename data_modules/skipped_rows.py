"""Rows that give no example are counted by cause, and written down with where they stood.

One rule for all readers:

* A row that is well formed but has nothing to teach is *left out*: no caption, a failed download,
  an image where a video is needed, an empty span. Readers call ``skipped.record(place, cause)``,
  or raise :class:`UnusableRowError` from deeper down. Any number of them is allowed.
* A row of which something is not read that may matter, such as a key that says how a video is to be
  looked at, gives its example and a *remark*, which is counted.
* A row that is *malformed* is left out too: a field is missing or of another type, an answer is
  none of the options, a line is not JSON or not UTF-8, a row has a wrong number of columns. Reader
  code raises :class:`MalformedRowError`. ``data.max_malformed_fraction`` of a corpus' rows may be
  (and always one, unless it is 0); beyond that the run stops and shows the first ten.
* A *file* that is wrong as a whole is a plain ``ValueError`` at once: it is missing, cut off, not
  JSON, or has no column of the wanted name. So is a text that was never closed, because nobody can
  tell how far it reaches.
* One video's rows are left out when a file that holds only that video's data is damaged, just as
  those of an unreadable video are, and what follows the damaged place of a tar shard.

``nan``, ``None`` and the like are malformed as ids and questions, nothing as times and captions,
and texts as answers and options, where they can be meant.

:func:`examples_of` is the loop that every reader runs over its rows: a generator cannot go on after
it has raised, so what may raise is a function of one row.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from vidreason.example import Example

logger = logging.getLogger(__name__)

MAX_MALFORMED_FRACTION = 0.001
"""Share of a corpus' rows that may be malformed, unless the configuration says otherwise."""

NUM_SHOWN = 3
"""Locations of each cause that are kept for the summary."""

NUM_MALFORMED_SHOWN = 10
"""Malformed rows whose message is kept."""

MALFORMED = "malformed"
"""The cause under which malformed rows are counted."""

# Reading stops early where so many rows are malformed, and ten times the allowed share of those
# read so far: then a file of a hundred million rows is not read to its end to be refused.
_HOPELESS_ROWS, _HOPELESS_FACTOR = 1000, 10
_MAX_NAME_CHARACTERS = 80

R = TypeVar("R")


class MalformedRowError(ValueError):
    """One record of a file is wrong; the others can still be read.

    Args:
        place: ``file:line``, or what else leads to the record.
        problem: The field, what was found there, and what was expected or helps.
        name: The record's own id, such as ``qid '7'``; empty where it is not known.
    """

    def __init__(self, place: str, problem: str, name: str = "") -> None:
        super().__init__(f"{place}{name and f' ({name})'}: {problem}")
        self.place = place
        self.problem = problem


class UnusableRowError(ValueError):
    """A well-formed record that has nothing to teach.

    Args:
        place: ``file:line``, or what else leads to the record.
        cause: The same words for all records that are left out for the same reason.
    """

    def __init__(self, place: str, cause: str) -> None:
        super().__init__(f"{place}: {cause}")
        self.place = place
        self.cause = cause


class SkippedRow(NamedTuple):
    """One row that gave no example."""

    place: str
    """``file:line``, or the member of a tar file."""
    cause: str
    """The same words for every row left out for the same reason; of a malformed row, its error."""


class SkippedRows:
    """Counts the rows of one corpus that its reader left out.

    The first row of each cause is logged as a warning when it is met, and so is each of the first
    ``NUM_MALFORMED_SHOWN`` malformed ones.

    Args:
        path: A file that gets one JSON object a row (``place``, ``cause``), written anew; None to
            count without writing.
        max_malformed_fraction: Share of malformed rows beyond which it is hopeless to read on. With
            0 the first one is raised.
        quiet: Whether nothing is logged, because the same file is read once more.

    Attributes:
        num_read: Rows that gave an example.
        remarks: Rows that gave one though something of them was not read, by what that was.
        malformed: The errors of the first malformed rows.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        max_malformed_fraction: float = 0.0,
        quiet: bool = False,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.max_malformed_fraction = max_malformed_fraction
        self._quiet = quiet
        self.num_read = 0
        self.causes: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.first_places: dict[str, list[str]] = {}
        self.malformed: list[str] = []
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("")

    @property
    def num_skipped(self) -> int:
        """Rows left out so far, malformed ones too."""
        return self.causes.total()

    @property
    def num_malformed(self) -> int:
        """Rows left out so far because they are malformed."""
        return self.causes[MALFORMED]

    @property
    def num_rows(self) -> int:
        """Rows met so far."""
        return self.num_read + self.num_skipped

    def record(self, place: str, cause: str) -> None:
        """Count the row at ``place`` as left out."""
        if cause not in self.causes and not self._quiet:
            logger.warning("%s: left out: %s (further such rows are only counted)", place, cause)
        self._count(place, cause, 1)
        self._write(place, cause)

    def record_refused(self, place: str, cause: str) -> None:
        """Count an example that a reader gave, and whose row counts as left out all the same."""
        self.record(place, cause)
        self.num_read = max(self.num_read - 1, 0)

    def remark(self, place: str, remark: str) -> None:
        """Count the row at ``place`` as read, but not all of it.

        Args:
            place: ``file:line``.
            remark: The same words for all rows of which the same is not read.
        """
        if remark not in self.remarks and not self._quiet:
            logger.warning("%s: %s (further such rows are only counted)", place, remark)
        self.remarks[remark] += 1

    def record_malformed(self, error: MalformedRowError, num_rows: int = 1) -> None:
        """Count the row that ``error`` is about as malformed.

        Args:
            error: Names the row.
            num_rows: Rows that are lost with it.

        Raises:
            MalformedRowError: ``error`` itself, where no row may be malformed.
            ValueError: So many rows are malformed that it is hopeless to read on.
        """
        if self.max_malformed_fraction == 0:
            raise error
        self._count(error.place, MALFORMED, num_rows)
        self._write(error.place, str(error))
        if len(self.malformed) < NUM_MALFORMED_SHOWN:
            self.malformed.append(str(error))
            if not self._quiet:
                logger.warning("left out as malformed: %s", error)
        hopeless = _HOPELESS_FACTOR * self.max_malformed_fraction * self.num_rows
        if self.num_malformed >= _HOPELESS_ROWS and self.num_malformed > hopeless:
            raise ValueError(self._too_many(self.max_malformed_fraction, "read so far"))

    def check_malformed(self, max_malformed_fraction: float) -> None:
        """Refuse a corpus of which too many rows are malformed.

        Raises:
            ValueError: More than that share are, and more than one row is.
        """
        at_least = 1 if max_malformed_fraction else 0
        if self.num_malformed > max(at_least, max_malformed_fraction * self.num_rows):
            raise ValueError(self._too_many(max_malformed_fraction, "of the corpus"))

    def summary(self) -> str:
        """The causes, the most frequent first, with their first places."""
        return "; ".join(
            f"{count} x {cause}, such as {', '.join(self.first_places[cause])}"
            for cause, count in self.causes.most_common()
        )

    def as_json(self) -> dict[str, Any]:
        """The counts and what is shown of them, for :meth:`from_json`."""
        return {
            "num_read": self.num_read,
            "causes": dict(self.causes),
            "remarks": dict(self.remarks),
            "first_places": self.first_places,
            "malformed": self.malformed,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The counts that :meth:`as_json` has told, read from a JSON file."""
        skipped = cls()
        skipped.num_read = values["num_read"]
        skipped.causes = Counter(values["causes"])
        skipped.remarks = Counter(values["remarks"])
        skipped.first_places = values["first_places"]
        skipped.malformed = values["malformed"]
        return skipped

    def _count(self, place: str, cause: str, num_rows: int) -> None:
        self.causes[cause] += num_rows
        places = self.first_places.setdefault(cause, [])
        if len(places) < NUM_SHOWN:
            places.append(place)

    def _write(self, place: str, cause: str) -> None:
        if self.path is not None:
            row = json.dumps(SkippedRow(place, cause)._asdict(), ensure_ascii=False)
            # A name in a damaged file may hold half a character.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(row + "\n")

    def _too_many(self, max_malformed_fraction: float, rows: str) -> str:
        shown = "".join(f"\n  {line}" for line in self.malformed)
        return (
            f"{self.num_malformed} of {self.num_rows} rows {rows} are malformed; "
            f"data.max_malformed_fraction is {max_malformed_fraction:g}: repair the file, or raise "
            f"the share. The first are{shown}"
        )


def examples_of(
    rows: Iterable[tuple[str, R]],
    make: Callable[[str, R], Iterable[Example]],
    skipped: SkippedRows,
    *,
    named_by: Sequence[str] = (),
    unique: bool = False,
) -> Iterator[Example]:
    """Yield the examples of all rows; count those that have none, and why.

    All examples of a row are made before the first of them is yielded: a row that turns out to be
    malformed gives none.

    Args:
        rows: ``(place, row)``, where ``place`` is ``file:line``.
        make: Called with ``(place, row)``; returns the row's examples, or yields them. It raises
            :class:`MalformedRowError` or :class:`UnusableRowError` for a row without.
        skipped: Counts what is left out.
        named_by: Fields by which the benchmark names a record: they are put into its error.
        unique: Whether a row whose first example has an id that came before is malformed. It costs
            memory for the ids; without it, repeated ids are found when the corpus is indexed.

    Raises:
        ValueError: A file is wrong as a whole, or it is hopeless to read on.
    """
    ids: set[str] = set()
    for place, row in rows:
        try:
            examples = tuple(make(place, row))
            for example in examples:
                _check_characters(example, place)
            if unique and examples:
                _check_new(examples[0].id, ids, place)
        except UnusableRowError as left_out:
            skipped.record(left_out.place, left_out.cause)
        except MalformedRowError as error:
            name = _record_name(row, named_by)
            named = MalformedRowError(error.place, error.problem, name) if name else error
            skipped.record_malformed(named.with_traceback(error.__traceback__))
        else:
            skipped.num_read += bool(examples)
            yield from examples


def _check_characters(example: Example, place: str) -> None:
    """Refuse what no file name, table or tokenizer can hold, whichever field it came from."""
    named = (example.id, example.media, example.video_id, example.question_type, example.group_id)
    text = "".join((*named, example.prompt, example.response, *example.options, *example.answers))
    if "\0" in text:
        raise MalformedRowError(place, "a text holds a null character")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedRowError(
            place, f"a text holds {text[error.start]!r}, half a surrogate pair: the text was cut"
        ) from error


def _check_new(example_id: str, ids: set[str], place: str) -> None:
    if example_id in ids:
        raise MalformedRowError(
            place, f"the id {example_id!r} is there twice: keep one of the two rows"
        )
    ids.add(example_id)


def _record_name(row: object, named_by: Sequence[str]) -> str:
    """The values of the fields that name a record, as far as it has them."""
    if not isinstance(row, Mapping):
        return ""
    values = ((field, row.get(field)) for field in named_by)
    return ", ".join(
        f"{field} {value!r:.{_MAX_NAME_CHARACTERS}}"
        for field, value in values
        if isinstance(value, str | int) and value != ""
    )
