"""Corpora on disk: a reader's examples written once, then read row by row from a memory map.

A corpus of any size costs a process the same memory, opens at once, and is shared by all processes
of a machine through the page cache, worker processes included. An index is made by
:func:`open_corpora` when it is first needed, and again when a file that was read has changed, or
the reader's version.
"""

import json
import logging
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from data_modules.corpora import CorpusConfig, LossOn, check_names
from data_modules.example_files import VERSION, CorpusIndex, StoredExamples, write_index
from data_modules.files import Files, unchanged
from data_modules.id_hashes import UNIQUE_IDS, id_hash
from data_modules.index_cache import cache_folder, digest, exclusive
from data_modules.prompt_lengths import PromptLimit
from data_modules.readers import read_corpus, reader_named
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION, SkippedRows
from data_modules.trainable_examples import TrainableExamples
from vidreason.atomic_file import write_atomically
from vidreason.example import Example
from vidreason.video.media import is_remote

logger = logging.getLogger(__name__)

UNUSED_DAYS = 30
"""An outdated index is deleted so long after it was last opened: a run may still be reading it."""


class Corpora(StoredExamples):
    """Several corpora one after another."""

    def __init__(self, corpora: Sequence[CorpusIndex | TrainableExamples]) -> None:
        self.corpora = list(corpora)
        self.sizes = [len(corpus) for corpus in self.corpora]
        self._ends = np.cumsum(self.sizes, dtype=np.int64)

    def __len__(self) -> int:
        return sum(self.sizes)

    @override
    def example(self, row: int) -> Example:
        number = int(np.searchsorted(self._ends, row, side="right"))
        # A corpus begins its size before its end.
        return self.corpora[number][row - int(self._ends[number]) + self.sizes[number]]

    def lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of earlier turns, prompt and response, of each of ``indices``."""
        # (n,) indices -> (n,) numbers of corpora
        numbers = np.searchsorted(self._ends, indices, side="right")
        lengths = np.empty(len(indices), np.int32)
        for number in np.unique(numbers).tolist():
            start = int(self._ends[number]) - self.sizes[number]
            here = numbers == number
            lengths[here] = self.corpora[number].lengths(indices[here] - start)
        return lengths


def open_corpora(
    configs: Sequence[CorpusConfig], max_malformed_fraction: float = MAX_MALFORMED_FRACTION
) -> Corpora:
    """Open the indices of the corpora, in the given order; make those missing or outdated.

    What their readers left out is said in the log each time, in a line for each corpus.

    Args:
        configs: The corpora.
        max_malformed_fraction: Share of a corpus' rows that may be malformed. The index keeps the
            counts: with another share it is not made again.

    Raises:
        ValueError: A file is missing or wrong as a whole, too many rows of a corpus are malformed,
            a corpus has no example, or two of its examples have one id; or two corpora have one
            name and split.
    """
    check_names(configs, "the list of corpora")
    return Corpora([_open_corpus(config, max_malformed_fraction) for config in configs])


def open_trainable(
    configs: Sequence[CorpusConfig],
    limit: PromptLimit,
    max_malformed_fraction: float = MAX_MALFORMED_FRACTION,
    loss_on: LossOn = "last",
) -> Corpora:
    """Open the corpora without the examples that cannot be trained on.

    How many these are is said in the log each time, in a line for each corpus.

    Args:
        configs: The corpora.
        limit: Which prompts leave no room for a response.
        max_malformed_fraction: As for :func:`open_corpora`.
        loss_on: Which answers of a conversation an example teaches.

    Raises:
        ValueError: As :func:`open_corpora`, or nothing of a corpus can be trained on, or the chat
            template cannot be used for its conversations.
    """
    trainable = []
    corpora = open_corpora(configs, max_malformed_fraction).corpora
    for config, corpus in zip(configs, corpora, strict=True):
        assert isinstance(corpus, CorpusIndex)
        examples = TrainableExamples(corpus, limit, loss_on)
        counts = examples.left_out
        parts = [counts.summary()] if counts.num_skipped else []
        parts += [f"{number} x {remark}" for remark, number in counts.remarks.items()]
        shown = f"with data.max_text_tokens={limit.max_text_tokens}: {'; '.join(parts)}"
        if not len(examples):
            raise ValueError(f"{config} has nothing to train or validate on, {shown}")
        if parts:
            logger.warning("%s, %s", config, shown)
        if examples.num_joined:
            logger.info(
                "%s: %d examples teach %d answers, those of a conversation together, by "
                "data.loss_on=all",
                *(config, len(examples), len(examples) + examples.num_joined),
            )
        trainable.append(examples)
    return Corpora(trainable)


def _open_corpus(config: CorpusConfig, max_malformed_fraction: float) -> CorpusIndex:
    root = config.root if is_remote(config.root) else os.path.abspath(config.root)
    # What examples follow from, but for files and versions, which the pointer in the folder has.
    wanted = {**asdict(config), "root": root, "weight": None}  # the weight changes no example
    folder = cache_folder() / "corpora" / f"{config.corpus}-{config.split}-{digest(wanted)}"
    index = _valid(folder, config)
    if index is None:
        with exclusive(folder):
            index = _valid(folder, config)  # another process may have made it
            if index is None:
                logger.info("indexing %s", config)
                index = _make(config, folder, max_malformed_fraction)
                _delete_outdated(folder, index)
    # The folder's time says when it was last used: _delete_outdated goes by it.
    with suppress(OSError):  # the cache may be somebody else's
        os.utime(index)
    corpus = CorpusIndex(index)
    if corpus.skipped.num_skipped:
        counts = f"{corpus.skipped.num_skipped} rows were left out, besides {len(corpus)} examples"
        logger.warning("%s: %s: %s", config, counts, corpus.skipped.summary())
    for remark, count in corpus.skipped.remarks.most_common():
        logger.warning("%s: %d rows: %s", config, count, remark)
    try:
        # The index may have been made under another share, with which it was not refused.
        corpus.skipped.check_malformed(max_malformed_fraction)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error
    return corpus


def _versions(config: CorpusConfig) -> list[int]:
    """Versions of the index's form and of the reader."""
    return [VERSION, reader_named(config.reader).version]


def _valid(folder: Path, config: CorpusConfig) -> Path | None:
    """The index that is current in ``folder``, unless there is none or it is out of date."""
    try:
        pointer = json.loads((folder / "current.json").read_text())
    except FileNotFoundError:
        return None
    index = folder / pointer["index"]
    is_current = pointer.get("versions") == _versions(config) and index.is_dir()
    return index if is_current and unchanged(pointer["inputs"]) else None


def _make(config: CorpusConfig, folder: Path, max_malformed_fraction: float) -> Path:
    index = folder / uuid.uuid4().hex
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, index, ignore_errors=True)
        files = Files(config.root)
        skipped = SkippedRows(max_malformed_fraction=max_malformed_fraction)
        # Written into a folder of its own, which the pointer names once it is whole.
        write_index(index, read_corpus(config, skipped, files), skipped)
        _refuse_repeated(_repeated_ids(CorpusIndex(index)), config)
        pointer = {"index": index.name, "versions": _versions(config), "inputs": files.inputs}
        write_atomically(folder / "current.json", json.dumps(pointer, indent=1))
        undo.pop_all()  # it is whole, and named: it stays
    return index


def _delete_outdated(folder: Path, current: Path) -> None:
    """Delete indices that were replaced, or never finished, and that no run can be reading."""
    for entry in folder.iterdir():
        unused_seconds = time.time() - entry.stat().st_mtime
        if entry.is_dir() and entry != current and unused_seconds > UNUSED_DAYS * 86_400:
            shutil.rmtree(entry, ignore_errors=True)


def _repeated_ids(corpus: CorpusIndex) -> set[str]:
    hashes = corpus.id_hashes
    # Sorted, so that equal ones are neighbours; whether their ids are equal, too, is looked up.
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    return {one for one, count in _ids_with(repeated, corpus).items() if count > 1}


def _ids_with(hashes: NDArray[np.uint64], corpus: CorpusIndex) -> Counter[str]:
    """The ids of ``corpus`` that have one of ``hashes``: equal hashes may be of two ids."""
    wanted = set(hashes.tolist())
    return Counter(one.id for one in corpus if id_hash(one.id) in wanted) if wanted else Counter()


def _refuse_repeated(ids: set[str], config: CorpusConfig) -> None:
    if ids:
        others = f", and so are {len(ids) - 1} others" if len(ids) > 1 else ""
        raise ValueError(f"the id {min(ids)!r} is there twice in {config}{others}: {UNIQUE_IDS}")
