"""Rows that give no example are counted by cause, and written down with where they stood.

One rule for all readers:

* A row that is well formed but has nothing to teach is *left out*: no caption, a failed download,
  an image where a video is needed, an empty span. Reader code raises :class:`UnusableRowError`
  (``row.unusable(cause)``). Any number of them is allowed.
* A row of which something is not read that may matter, such as a key that says how a video is to be
  looked at, gives its example and a *remark*, which is counted.
* A row that is *malformed* is left out too: a field is missing or of another type, an answer is
  none of the options, a line is not JSON or not UTF-8, a row has a wrong number of columns. Reader
  code raises :class:`MalformedRowError` (``row.malformed(problem)``).
  ``data.max_malformed_fraction`` of a corpus' rows may be (and always one, unless it is 0); beyond
  that the run stops and shows the first ten.
* A *file* that is wrong as a whole is a plain ``ValueError`` at once: it is missing, cut off, not
  JSON, or has no column of the wanted name. So is a text that was never closed, because nobody can
  tell how far it reaches.
* One video's rows are left out when a file that holds only that video's data is damaged, just as
  those of an unreadable video are, and what follows the damaged part of a tar shard.

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
from typing import Any, Self

from data_modules.rows import MalformedRowError, Row, UnusableRowError
from vidreason.example import Example

logger = logging.getLogger(__name__)

MAX_MALFORMED_FRACTION = 0.001
"""Share of a corpus' rows that may be malformed, unless the configuration says otherwise."""

MAX_TEXT_CHARACTERS = 2**20
"""A longer text is no question, answer or caption: something was not closed."""

NUM_SHOWN = 3
"""Locations of each cause that are kept for the summary."""

NUM_MALFORMED_SHOWN = 10
"""Malformed rows whose message is kept."""

MALFORMED = "malformed"
"""The cause under which malformed rows are counted."""

# Reading stops early where so many rows are malformed, and ten times the allowed share of those
# read so far: then a file of a hundred million rows is not read to its end to be refused.
_HOPELESS_ROWS, _HOPELESS_FACTOR = 1000, 10


class SkippedRows:
    """Counts the rows of one corpus that its reader left out.

    The first row of each cause is logged as a warning when it is met, and so is each of the first
    ``NUM_MALFORMED_SHOWN`` malformed ones.

    Args:
        path: A file that gets one JSON object a row (``place`` and ``cause``), written anew; None
            to count without writing.
        max_malformed_fraction: Share of malformed rows beyond which it is hopeless to read on. With
            0 the first one is raised.
        quiet: Whether nothing is logged.

    Attributes:
        num_read: Rows that gave an example.
        causes: Rows that gave none, by cause.
        remarks: Rows that gave one though something of them was not read, by what that was.
        first_locations: Of the first rows of each cause.
        malformed: The errors of the first malformed rows.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        max_malformed_fraction: float = 0.0,
        quiet: bool = False,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._max_malformed_fraction = max_malformed_fraction
        self._quiet = quiet
        self.num_read = 0
        self.causes: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.first_locations: dict[str, list[str]] = {}
        self.malformed: list[str] = []
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text("")

    @classmethod
    def uncounted(cls) -> Self:
        """Counts for a first look at rows that are read, and counted, once more."""
        return cls(max_malformed_fraction=1.0, quiet=True)

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

    def record(self, location: str, cause: str, num_rows: int = 1) -> None:
        """Count a row as left out, or several for one cause, of which the first is named."""
        if cause not in self.causes:
            self._warn("%s: left out: %s (further such rows are only counted)", location, cause)
        self._count(location, cause, cause, num_rows)

    def record_refused(self, location: str, cause: str) -> None:
        """Count an example that a reader gave, and whose row counts as left out all the same."""
        self.record(location, cause)
        self.num_read = max(self.num_read - 1, 0)

    def remark(self, location: str, remark: str) -> None:
        """Count a row as read, but not all of it.

        Args:
            location: ``file:line``.
            remark: The same words for all rows of which the same is not read.
        """
        if remark not in self.remarks:
            self._warn("%s: %s (further such rows are only counted)", location, remark)
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
        if self._max_malformed_fraction == 0:
            raise error
        self._count(error.location, MALFORMED, str(error), num_rows)
        if len(self.malformed) < NUM_MALFORMED_SHOWN:
            self.malformed.append(str(error))
            self._warn("left out as malformed: %s", error)
        hopeless = _HOPELESS_FACTOR * self._max_malformed_fraction * self.num_rows
        if self.num_malformed >= _HOPELESS_ROWS and self.num_malformed > hopeless:
            raise ValueError(self._too_many(self._max_malformed_fraction, "read so far"))

    def check_malformed(self, max_malformed_fraction: float) -> None:
        """Refuse a corpus of which too many rows are malformed.

        Raises:
            ValueError: More than that share are, and more than one row is.
        """
        at_least = 1 if max_malformed_fraction else 0
        if self.num_malformed > max(at_least, max_malformed_fraction * self.num_rows):
            raise ValueError(self._too_many(max_malformed_fraction, "of the corpus"))

    def summary(self) -> str:
        """The causes, the most frequent first, with their first locations."""
        return "; ".join(
            f"{count} x {cause}, such as {', '.join(self.first_locations[cause])}"
            for cause, count in self.causes.most_common()
        )

    def as_json(self) -> dict[str, Any]:
        """The counts and what is shown of them, for :meth:`from_json`."""
        names = ("num_read", "causes", "remarks", "first_locations", "malformed")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The counts that :meth:`as_json` gave, read from a JSON file."""
        skipped = cls()
        for name, value in values.items():
            # JSON has written counters as objects; each gets the type that it has here.
            setattr(skipped, name, type(getattr(skipped, name))(value))
        return skipped

    def _warn(self, message: str, *values: object) -> None:
        if not self._quiet:
            logger.warning(message, *values)

    def _count(self, location: str, cause: str, written: str, num_rows: int = 1) -> None:
        self.causes[cause] += num_rows
        locations = self.first_locations.setdefault(cause, [])
        if len(locations) < NUM_SHOWN:
            locations.append(location)
        if self._path is not None:
            row = json.dumps({"place": location, "cause": written}, ensure_ascii=False)
            # A name in a damaged file may hold half a character.
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(row + "\n")

    def _too_many(self, max_malformed_fraction: float, rows: str) -> str:
        shown = "".join(f"\n  {line}" for line in self.malformed)
        return (
            f"{self.num_malformed} of {self.num_rows} rows {rows} are malformed; "
            f"data.max_malformed_fraction is {max_malformed_fraction:g}: repair the file, or raise "
            f"the share. The first are{shown}"
        )


def expanded(
    rows: Iterable[Row], expand: Callable[[Row], Iterable[Row]], skipped: SkippedRows
) -> Iterator[Row]:
    """Yield the rows inside of each row, such as the questions about a video.

    Args:
        rows: The outer rows.
        expand: Returns the rows of one of them, or yields them; it raises
            :class:`MalformedRowError` for a row that is malformed with all that is in it.
        skipped: Counts these.
    """
    for row in rows:
        try:
            inner = list(expand(row))
        except MalformedRowError as error:
            skipped.record_malformed(_named(error, row, ("name",)))
        else:
            yield from inner


def examples_of(
    rows: Iterable[Row],
    make: Callable[[Row], Iterable[Example]],
    skipped: SkippedRows,
    *,
    named_by: Sequence[str] = (),
    unique: bool = False,
) -> Iterator[Example]:
    """Yield the examples of all rows; count those that have none, and why.

    All examples of a row are made before the first of them is yielded: a row that turns out to be
    malformed gives none.

    Args:
        rows: The rows.
        make: Returns a row's examples, or yields them. It raises :class:`MalformedRowError` or
            :class:`UnusableRowError` for a row without.
        skipped: Counts what is left out.
        named_by: Fields by which the benchmark names a record: they are put into its error.
        unique: Whether a row whose first example has an id that came before is malformed. It costs
            memory for the ids; without it, repeated ids are found when the corpus is indexed.

    Raises:
        ValueError: A file is wrong as a whole, or it is hopeless to read on.
    """
    ids: set[str] = set()
    for row in rows:
        try:
            # All or none: a row that turns out to be malformed gives no example.
            examples = tuple(make(row))
            for example in examples:
                _check_texts(example, row)
            if unique and examples:
                if examples[0].id in ids:
                    raise row.malformed(
                        f"the id {examples[0].id!r} is there twice: keep one of the two rows"
                    )
                ids.add(examples[0].id)
        except UnusableRowError as left_out:
            skipped.record(left_out.location, left_out.cause)
        except MalformedRowError as error:
            skipped.record_malformed(_named(error, row, named_by))
        else:
            skipped.num_read += bool(examples)
            yield from examples


def _check_texts(example: Example, row: Row) -> None:
    """Refuse what no file name, table or tokenizer can hold, whichever field it came from."""
    named = (example.id, example.media, example.video_id, example.question_type, example.group_id)
    answered = (example.response, *example.options, *example.answers, *example.meta.values())
    prompts = (example.prompt, *(turn.text for turn in example.earlier_turns))
    # One text of all: each check below is one pass.
    text = "".join((*named, *answered, *prompts))
    # Prompts may be long, and so may be the turns before them.
    if len(text) - example.prompt_length > MAX_TEXT_CHARACTERS:
        longest = max((*named, *answered), key=len)
        if len(longest) > MAX_TEXT_CHARACTERS:
            raise row.malformed(
                f"the text {longest[:60]!r}... has {len(longest)} characters, more than "
                f"{MAX_TEXT_CHARACTERS}: something was not closed"
            )
    if "\0" in text:
        raise row.malformed("a text holds a null character")
    # The usual case: nothing to encode.
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise row.malformed(
            f"a text holds {text[error.start]!r}, half a surrogate pair: the text was cut"
        ) from error


def _named(error: MalformedRowError, row: Row, named_by: Sequence[str]) -> MalformedRowError:
    """The error with the values of the fields that name the record, as far as it has them."""
    values = ((field, row.get(field)) for field in named_by)
    name = ", ".join(
        f"{field} {value!r:.80}"
        for field, value in values
        if isinstance(value, str | int) and value != ""
    )
    named = MalformedRowError(error.location, error.problem, name)
    return named.with_traceback(error.__traceback__)
