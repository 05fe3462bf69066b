"""``experiments.data continuation``: what comes next, as a multiple-choice benchmark."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotated_spans import annotated_spans
from data_modules.continuation import Continuation, continuations
from data_modules.continuation_benchmark import accuracy_by_length, continuation_benchmark
from data_modules.corpora import CorpusConfig
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from experiments.data.config import DataCommandConfig
from vidreason.atomic_file import write_atomically
from vidreason.secrets import without_controls

FOLDER = "continuation"


def continuation(config: DataCommandConfig) -> int:
    """Write the benchmark of each split of ``data.benchmark``; return 1 if there is no question.

    Raises:
        ValueError: No corpus is configured, one of them is a training split, or it cannot be read.
    """
    by_split: dict[str, list[CorpusConfig]] = defaultdict(list)
    for corpus in config.data.benchmark:
        if corpus.split == "train":
            raise ValueError(f"data.benchmark: {corpus} is for training; name a split to test on")
        by_split[corpus.split].append(corpus)
    if not by_split:
        raise ValueError("data.benchmark is empty: name corpora of captions with times in it")
    num_rows = 0
    for split, corpora in by_split.items():
        rows = _write(config, split, corpora)
        num_rows += len(rows)
    return 0 if num_rows else 1


def _write(
    config: DataCommandConfig, split: str, corpora: list[CorpusConfig]
) -> list[dict[str, Any]]:
    skipped = SkippedRows(quiet=True)
    moments = _moments(config, corpora, skipped)
    rows = list(continuation_benchmark(moments, config.spans.horizon_seconds, config.seed, skipped))
    folder = Path(config.run_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.jsonl"
    for row in rows:
        # Paths of corpora may be relative to where this runs, and the benchmark is elsewhere.
        row["media"] = os.path.abspath(row["media"])
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"continuation: {len(rows)} questions are in {path}")
    for cause, number in skipped.causes.most_common():
        print(without_controls(f"  left out: {number} x {cause}"))
    if rows:
        longest, shortest = (accuracy_by_length(rows, longest=one) for one in (True, False))
        print(f"  the longest option is right in {longest:.1%}, the shortest in {shortest:.1%}")
        # A reader opens nothing outside of its root but what media_dir allows.
        media_dir = os.path.commonpath([os.path.dirname(row["media"]) for row in rows])
        print(
            without_controls(
                f"  read it by {{reader: huggingface, name: next_events, root: {folder}, "
                f"split: {split}, media_dir: {media_dir}}}"
            )
        )
    return rows


def _moments(
    config: DataCommandConfig, corpora: list[CorpusConfig], skipped: SkippedRows
) -> Iterator[Continuation]:
    malformed = config.data.max_malformed_fraction
    for corpus in corpora:
        rows = SkippedRows(max_malformed_fraction=malformed)
        spans = annotated_spans(read_corpus(corpus, rows), skipped)
        yield from continuations(spans, config.spans, skipped)
        # Rows are counted while they are read: the share is known after the last one.
        rows.check_malformed(malformed)
