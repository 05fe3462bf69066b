"""Corpora on disk: a reader's examples written once, then read row by row from a memory map.

A corpus of any size costs a process the same memory, opens at once, and is shared by all processes
of a machine through the page cache, worker processes included. An index is made by
:func:`open_corpora` when it is first needed, and again when an annotation file, what lies beside
it, or the code that read it has changed.
"""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import override

import vidreason
from data_modules.corpora import CorpusConfig, read_corpus
from data_modules.id_hashes import IdHashes, id_hash, shared_hashes
from data_modules.index_cache import (
    Inputs,
    cache_folder,
    digest,
    exclusive,
    note_folder,
    recorded_inputs,
    unchanged,
)
from vidreason.example import Example

logger = logging.getLogger(__name__)

ROWS_A_BATCH = 4096
"""Examples in one Arrow record batch: what is written at a time."""

_VERSION = 1
_TEXTS = pa.list_(pa.string())
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "corpus", "media", "video_id")),
        *((name, pa.float64()) for name in ("start_seconds", "end_seconds")),
        *((name, pa.string()) for name in ("prompt", "response")),
        *(("options", _TEXTS), ("answer_index", pa.int32()), ("answers", _TEXTS)),
        *((name, pa.string()) for name in ("question_type", "meta")),
    ]
)
# Often the same in all rows of a corpus: then they are stored once, in the manifest, as those of
# the first example, and as null in the rows. A caption of 80 letters would otherwise stand beside a
# prompt of 60, 110 million times.
_USUAL = ("corpus", "prompt", "question_type", "meta")

EXAMPLES_FILE, LENGTHS_FILE, HASHES_FILE = "examples.arrow", "lengths.int32", "id_hashes.uint64"
MANIFEST_FILE = "manifest.json"


class CorpusIndex(Sequence[Example]):
    """The examples of one corpus, in the order of its files.

    It holds no example in memory. A copy in another process opens the files itself.

    Args:
        folder: What :func:`write_index` has written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        self._num_examples: int = manifest["num_examples"]
        self._usual: dict[str, str] = manifest["usual"]
        self._rows_a_batch: int = manifest["rows_a_batch"]
        self._file = pa.ipc.open_file(pa.memory_map(str(folder / EXAMPLES_FILE)))
        self._batch: tuple[int, Any] = (-1, None)
        self._lengths: NDArray[np.int32] = np.memmap(folder / LENGTHS_FILE, np.int32, "r")

    def __len__(self) -> int:
        return self._num_examples

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
            raise IndexError(f"row {index} of a corpus of {len(self)} examples")
        number, place = divmod(row, self._rows_a_batch)
        if self._batch[0] != number:
            self._batch = number, self._file.get_batch(number)
        values = {
            name: column[place].as_py()
            for name, column in zip(_SCHEMA.names, self._batch[1].columns, strict=True)
        }
        return _example(values, self._usual)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response together, of each of ``rows``."""
        return self._lengths[rows]

    @property
    def id_hashes(self) -> NDArray[np.uint64]:
        """Hashes of all ids, in ascending order, as a memory map."""
        return np.memmap(self.folder / HASHES_FILE, np.uint64, "r")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        CorpusIndex.__init__(self, state["folder"])


class Corpora(Sequence[Example]):
    """Several corpora one after another."""

    def __init__(self, corpora: Sequence[CorpusIndex]) -> None:
        self.corpora = list(corpora)
        self.sizes = [len(corpus) for corpus in self.corpora]
        self._ends = np.cumsum(self.sizes, dtype=np.int64)

    def __len__(self) -> int:
        return sum(self.sizes)

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
            raise IndexError(f"example {index} of corpora of {len(self)} examples")
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self.corpora[number][row - int(self._ends[number]) + self.sizes[number]]

    def lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response together, of each of ``indices``."""
        numbers = np.searchsorted(self._ends, indices, side="right")
        lengths = np.empty(len(indices), np.int32)
        for number in np.unique(numbers).tolist():
            start = int(self._ends[number]) - self.sizes[number]
            own = numbers == number
            lengths[own] = self.corpora[number].lengths(indices[own] - start)
        return lengths


def open_corpora(configs: Sequence[CorpusConfig]) -> Corpora:
    """Open the indices of the corpora, in the given order; make those missing or outdated.

    Raises:
        ValueError: A file is missing or malformed, a corpus has no example, or two examples have
            one id.
    """
    corpora = [_open_corpus(config) for config in configs]
    for number, (config, corpus) in enumerate(zip(configs, corpora, strict=True)):
        for other_config, other in zip(configs[:number], corpora, strict=False):
            # Ids begin with the corpus' name and the split.
            if (config.reader, config.split) == (other_config.reader, other_config.split):
                shared = shared_hashes(corpus.id_hashes, other.id_hashes)
                _refuse_repeated(_ids_with(shared, corpus) & _ids_with(shared, other), config)
    return Corpora(corpora)


def _open_corpus(config: CorpusConfig) -> CorpusIndex:
    root = os.path.abspath(config.root) if "://" not in config.root else config.root
    asked = {**asdict(config), "root": root, "weight": None}  # the weight changes no example
    key = digest([_VERSION, code_version(), asked])
    folder = cache_folder() / "corpora" / f"{config.reader}-{config.split}-{key}"
    current = folder / "current.json"
    found = _valid(current)
    if found is None:
        with exclusive(folder):
            found = _valid(current)  # another process may have made it
            if found is None:
                logger.info("indexing corpus %r, split %r", config.reader, config.split)
                found = _make(config, folder)
                for old in folder.iterdir():
                    if old.is_dir() and old != found:
                        shutil.rmtree(old, ignore_errors=True)
    return CorpusIndex(found)


def _valid(current: Path) -> Path | None:
    """The index that ``current`` points to, unless there is none or it is out of date."""
    try:
        pointer = json.loads(current.read_text())
    except FileNotFoundError:
        return None
    return current.with_name(pointer["index"]) if unchanged(pointer["inputs"]) else None


def _make(config: CorpusConfig, folder: Path) -> Path:
    index = folder / uuid.uuid4().hex
    inputs: Inputs
    try:
        with recorded_inputs() as inputs:
            if "://" not in config.root:
                note_folder(Path(config.root))
            write_index(index, read_corpus(config))
        _refuse_repeated(_repeated_ids(CorpusIndex(index)), config)
    except BaseException:
        shutil.rmtree(index, ignore_errors=True)
        raise
    partial = index / "current.json"
    partial.write_text(json.dumps({"index": index.name, "inputs": inputs}, indent=1))
    os.replace(partial, folder / "current.json")
    return index


def write_index(folder: Path, examples: Iterable[Example]) -> None:
    """Write an index of ``examples`` into a new folder; memory does not grow with their number."""
    folder.mkdir(parents=True)
    hashes = IdHashes(folder / HASHES_FILE)
    usual: dict[str, str] = {}
    num_examples = 0
    with (
        pa.OSFile(str(folder / EXAMPLES_FILE), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
        (folder / LENGTHS_FILE).open("wb") as lengths,
    ):
        for rows in _batched(examples):
            if not num_examples:
                usual = {name: _columns(rows[:1], {})[name][0] for name in _USUAL}
            num_examples += len(rows)
            writer.write_batch(pa.record_batch(_columns(rows, usual), schema=_SCHEMA))
            np.array([len(e.prompt) + len(e.response) for e in rows], np.int32).tofile(lengths)
            hashes.add(np.array([id_hash(e.id) for e in rows], np.uint64))
    hashes.write()
    manifest = {"num_examples": num_examples, "rows_a_batch": ROWS_A_BATCH, "usual": usual}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


@lru_cache(maxsize=1)
def code_version() -> str:
    """A hash of the sources that decide what examples a corpus gives: readers, prompts, media."""
    library = Path(vidreason.__file__).parent
    sources = [
        *sorted(Path(__file__).parent.glob("*.py")),
        *sorted((library / "reasoning").glob("*.py")),
        *(library / "example.py", library / "video" / "media.py"),
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def _batched(examples: Iterable[Example]) -> Iterable[list[Example]]:
    rows: list[Example] = []
    for example in examples:
        rows.append(example)
        if len(rows) == ROWS_A_BATCH:
            yield rows
            rows = []
    if rows:
        yield rows


def _columns(rows: Sequence[Example], usual: dict[str, str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        field.name: [getattr(row, field.name) for row in rows] for field in fields(Example)
    }
    columns["meta"] = [json.dumps(row.meta) if row.meta else "" for row in rows]
    columns["answers"] = [None if row.answers == (row.response,) else row.answers for row in rows]
    for name, value in usual.items():
        columns[name] = [None if found == value else found for found in columns[name]]
    return columns


def _example(values: dict[str, Any], usual: dict[str, str]) -> Example:
    for name, value in usual.items():
        if values[name] is None:
            values[name] = value
    values["meta"] = json.loads(values["meta"]) if values["meta"] else {}
    answers = values["answers"]
    values["answers"] = (values["response"],) if answers is None else tuple(answers)
    values["options"] = tuple(values["options"])
    return Example(**values)


def _repeated_ids(corpus: CorpusIndex) -> set[str]:
    hashes = corpus.id_hashes
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(repeated):
        return set()
    counts = Counter(_id_list(repeated, corpus))
    return {one for one, count in counts.items() if count > 1}


def _ids_with(hashes: NDArray[np.uint64], corpus: CorpusIndex) -> set[str]:
    return set(_id_list(hashes, corpus)) if len(hashes) else set()


def _id_list(hashes: NDArray[np.uint64], corpus: CorpusIndex) -> list[str]:
    """The ids of ``corpus`` that have one of ``hashes``: equal hashes may be of two ids."""
    wanted = set(hashes.tolist())
    return [example.id for example in corpus if id_hash(example.id) in wanted]


def _refuse_repeated(ids: set[str], config: CorpusConfig) -> None:
    if ids:
        raise ValueError(
            f"the id {min(ids)!r} is there twice (corpus {config.reader!r} in {config.root!r}), "
            f"and so are {len(ids) - 1} others: a corpus is listed twice, or its file repeats a row"
        )
