"""Examples in files: written once in batches, read row by row from a memory map.

An Arrow IPC file holds the rows; a file of bare numbers beside it how long each row's text is, by
which steps are ordered; another the hashes of the ids, by which repeated ones are found; and a
manifest the rest, also which rows the reader has left out.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from typing_extensions import override

from data_modules.id_hashes import IdHashes, id_hash
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example, Turn

VERSION = 2
"""Raise it whenever the same examples give other files: an index of an older version is made again.
"""

ROWS_A_BATCH = 4096
"""Examples in one Arrow record batch: what is written at a time."""

_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "corpus", "media", "video_id")),
        *((name, pa.float64()) for name in ("start_seconds", "end_seconds")),
        *((name, pa.string()) for name in ("prompt", "response")),
        *(("options", _TEXTS), ("answer_index", pa.int32()), ("answers", _TEXTS)),
        *((name, pa.string()) for name in ("question_type", "group_id")),
        ("spans", pa.list_(pa.list_(pa.float64()))),
        *(("earlier_turns", _TEXTS), ("meta", pa.string())),
        ("continues", pa.bool_()),
    ]
)
"""Columns of the Arrow file: the fields of an example; of ``earlier_turns`` a role, its text, the
next role and so on; ``meta`` as JSON, or empty for none. ``continues`` is true where the earlier
turns end with what the row before asks and answers, else null."""

# Often the same in all rows of a corpus: then they are stored once, in the manifest, as those of
# the first example, and as null in the rows. A caption of 80 letters would otherwise stand beside a
# prompt of 60, 110 million times.
_USUAL = ("corpus", "prompt", "question_type", "group_id", "meta")

EXAMPLES_FILE, LENGTHS_FILE, HASHES_FILE = "examples.arrow", "lengths.int32", "id_hashes.uint64"
MANIFEST_FILE = "manifest.json"


class StoredExamples(Sequence[Example]):
    """Examples that are made from what is on the disk when they are asked for."""

    @abstractmethod
    def example(self, row: int) -> Example:
        """The example of a row from 0 on, which is there."""

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    @override
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self.example(row)


class CorpusIndex(StoredExamples):
    """The examples of one corpus, in the order of its files.

    It holds no example in memory. A copy in another process opens the files itself.

    Args:
        folder: What :func:`write_index` has written.

    Attributes:
        ids_digest: The same for the same ids in the same order.
        skipped: Which rows were left out when the index was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        self._num_examples: int = manifest["num_examples"]
        self._usual: dict[str, str] = manifest["usual"]
        self._rows_a_batch: int = manifest["rows_a_batch"]
        self.ids_digest: str = manifest["ids_digest"]
        self.skipped = SkippedRows.from_json(manifest["skipped"])
        self._file = pa.ipc.open_file(pa.memory_map(str(folder / EXAMPLES_FILE)))
        self._batch: tuple[int, Any] = (-1, None)  # number and columns of the last one read
        self._lengths: NDArray[np.int32] = np.memmap(folder / LENGTHS_FILE, np.int32, "r")

    def __len__(self) -> int:
        return self._num_examples

    @override
    def example(self, row: int) -> Example:
        number, index = divmod(row, self._rows_a_batch)
        if self._batch[0] != number:
            self._batch = number, self._file.get_batch(number)
        values = {
            name: column[index].as_py()
            for name, column in zip(SCHEMA.names, self._batch[1].columns, strict=True)
            if name != "continues"  # no field of an example
        }
        return _example(values, self._usual)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of earlier turns, prompt and response, of each of ``rows``."""
        return self._lengths[rows]

    def turn_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows with earlier turns, and how many each of them has."""
        rows, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number in range(self._file.num_record_batches):
            # Role and text are two items of the list.
            items = pc.fill_null(pc.list_value_length(self._turns(number)), 0)
            (with_turns,) = np.nonzero(items.to_numpy(zero_copy_only=False))
            rows.append(with_turns + number * self._rows_a_batch)
            counts.append(items.to_numpy(zero_copy_only=False)[with_turns] // 2)
        return np.concatenate(rows), np.concatenate(counts)

    def continued_rows(self) -> NDArray[np.int64]:
        """The rows whose prompt and response are the last of the next row's earlier turns."""
        return self.rows_where("continues", lambda values: values) - 1

    def long_prompts(self, max_bytes: int, turn_bytes: int) -> NDArray[np.int64]:
        """The rows whose prompts, with the turns before them, are longer than ``max_bytes``.

        Args:
            max_bytes: In UTF-8.
            turn_bytes: Added for each of the earlier turns.
        """
        usual = len(self._usual.get("prompt", "").encode())
        parts = [np.zeros(0, np.int64)]
        for number in range(self._file.num_record_batches):
            texts = self._file.get_batch(number).column("prompt")
            sizes = pc.fill_null(pc.binary_length(texts), usual).to_numpy(zero_copy_only=False)
            turns = self._turns(number)
            if turns.null_count < len(turns):
                # (rows + 1,): where each row's items begin among those of the whole batch
                ends = turns.offsets.to_numpy()
                items = pc.binary_length(turns.values).to_numpy(zero_copy_only=False)
                before = np.concatenate([np.zeros(1, np.int64), np.cumsum(items, dtype=np.int64)])
                sizes = sizes + np.diff(before[ends]) + np.diff(ends) // 2 * turn_bytes
            (rows,) = np.nonzero(sizes > max_bytes)
            parts.append(rows + number * self._rows_a_batch)
        return np.concatenate(parts)

    def _turns(self, number: int) -> Any:  # noqa: ANN401 - pyarrow has no types
        return self._file.get_batch(number).column("earlier_turns")

    def rows_where(self, column: str, condition: Callable[[Any], Any]) -> NDArray[np.int64]:
        """The rows whose value in ``column`` fulfils a condition, without making their examples.

        Args:
            column: A column of values, not of lists.
            condition: From an Arrow array of values to one of booleans.
        """
        usual = self._usual.get(column)
        is_usual = usual is not None and condition(pa.array([usual]))[0].as_py()
        parts = [np.zeros(0, np.int64)]
        for number in range(self._file.num_record_batches):
            texts = self._file.get_batch(number).column(column)
            # Null stands for the usual text.
            fulfils = pc.fill_null(condition(texts), is_usual)
            (rows,) = np.nonzero(fulfils.to_numpy(zero_copy_only=False))
            parts.append(rows + number * self._rows_a_batch)
        return np.concatenate(parts)

    @property
    def id_hashes(self) -> NDArray[np.uint64]:
        """Hashes of all ids, in ascending order, as a memory map."""
        return np.memmap(self.folder / HASHES_FILE, np.uint64, "r")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        CorpusIndex.__init__(self, state["folder"])


WriteRows = Callable[[pa.RecordBatch, NDArray[np.int32], NDArray[np.uint64]], None]
"""Adds ``ROWS_A_BATCH`` rows of ``SCHEMA`` to an index, or fewer if they are the last; further, of
each row, the characters of prompt and response, and :func:`data_modules.id_hashes.id_hash`."""


@contextmanager
def index_writer(
    folder: Path, usual: dict[str, str], skipped: SkippedRows | None = None
) -> Iterator[WriteRows]:
    """Write an index into a new folder, batch by batch; without an error it is whole at the end.

    Args:
        folder: The folder, which is made.
        usual: Values that stand for null in the columns of these names.
        skipped: What is left out while it is written; None for nothing.
    """
    folder.mkdir(parents=True)
    ids, id_hashes = hashlib.sha256(), IdHashes(folder / HASHES_FILE)
    num_examples = 0
    with (
        pa.OSFile(str(folder / EXAMPLES_FILE), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as examples,
        (folder / LENGTHS_FILE).open("wb") as lengths_file,
    ):

        def write(
            batch: pa.RecordBatch, lengths: NDArray[np.int32], hashes: NDArray[np.uint64]
        ) -> None:
            nonlocal num_examples
            examples.write_batch(batch)
            lengths.tofile(lengths_file)
            # A digest of all ids, in order: by it a resumed run knows its corpus again.
            ids.update("".join(f"{one}\n" for one in batch.column("id").to_pylist()).encode())
            id_hashes.add(hashes.tolist())
            num_examples += len(batch)

        yield write
    # The manifest comes last: a folder without one is no index.
    id_hashes.write()
    manifest = {
        "num_examples": num_examples,
        "rows_a_batch": ROWS_A_BATCH,
        "ids_digest": ids.hexdigest()[:16],
        "usual": usual,
        "skipped": (skipped or SkippedRows()).as_json(),
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def write_index(
    folder: Path, examples: Iterable[Example], skipped: SkippedRows | None = None
) -> None:
    """Write an index of ``examples`` into a new folder; memory does not grow with their number.

    Args:
        folder: The folder, which is made.
        examples: What is to be in it.
        skipped: What the reader leaves out meanwhile; None for nothing.
    """
    remaining = iter(examples)
    batches = iter(lambda: list(islice(remaining, ROWS_A_BATCH)), [])
    first = next(batches, [])
    # Values of the first example, which most rows of a corpus share.
    usual = {name: _columns(first[:1], {})[name][0] for name in _USUAL} if first else {}
    previous: Example | None = None
    with index_writer(folder, usual, skipped) as write:
        for rows in chain([first] if first else [], batches):
            columns = _columns(rows, usual)
            columns["continues"] = list(map(_continues, rows, [previous, *rows[:-1]]))
            previous = rows[-1]
            write(
                pa.record_batch(columns, schema=SCHEMA),
                np.array([row.prompt_length + len(row.response) for row in rows], np.int32),
                np.array([id_hash(row.id) for row in rows], np.uint64),
            )


def _continues(example: Example, previous: Example | None) -> Literal[True] | None:
    """True where an example goes on with the conversation of the one before it."""
    if previous is None or not example.earlier_turns:
        return None
    taught = (Turn("user", previous.prompt), Turn("assistant", previous.response))
    same_video = example.media_span == previous.media_span
    return (same_video and example.earlier_turns == (*previous.earlier_turns, *taught)) or None


def _columns(rows: Sequence[Example], usual: dict[str, str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        field.name: [getattr(row, field.name) for row in rows] for field in fields(Example)
    }
    columns["meta"] = [json.dumps(row.meta) if row.meta else "" for row in rows]
    # Most rows have neither spans nor turns: null instead of an empty list.
    columns["spans"] = [row.spans or None for row in rows]
    columns["earlier_turns"] = [
        [item for turn in row.earlier_turns for item in turn[:2]] or None for row in rows
    ]
    # Null stands for the response, the usual answer.
    columns["answers"] = [None if row.answers == (row.response,) else row.answers for row in rows]
    for name, value in usual.items():
        columns[name] = [None if one == value else one for one in columns[name]]
    return columns


def _example(values: dict[str, Any], usual: dict[str, str]) -> Example:
    for name, value in usual.items():
        if values[name] is None:
            values[name] = value
    values["meta"] = json.loads(values["meta"]) if values["meta"] else {}
    answers = values["answers"]
    values["answers"] = (values["response"],) if answers is None else tuple(answers)
    values["options"] = tuple(values["options"])
    items = iter(values["earlier_turns"] or ())
    values["earlier_turns"] = tuple(map(Turn, items, items))
    values["spans"] = tuple((start, end) for start, end in values["spans"] or ())
    return Example(**values)
