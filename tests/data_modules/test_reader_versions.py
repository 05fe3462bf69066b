"""A reader whose output changes has another version, or indices would go on serving the old one."""

import copy
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import TINY_CORPORA

from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows

DIGESTS: dict[str, dict[int, str]] = {
    "webvid": {1: "911fdfcdff9bb785"},
    "webdataset": {1: "0ea5ae6c1d5dc0c3"},
    "hd_vila": {1: "13588fe245b45bb1"},
    "nextqa": {1: "26870ab0a3e48c29"},
    "nextqa_open_ended": {1: "0f2583e9a01eb8be"},
    "activitynet_qa": {1: "a37b4d92946cb366"},
    "nextgqa": {1: "9caac13822425825"},
    "clevrer": {1: "2ed4a9b0da41f916"},
    "vcr": {1: "93f42b46724e0724"},
    "test_of_time": {1: "260e8ed102ec9548"},
    "mvbench": {1: "14c5cdad68ae645f"},
    "tempcompass": {1: "2222d3675417706e"},
    "video_mme": {1: "32e0a28ed0d04812"},
    "egoschema": {1: "cfe99b107bf9383f"},
    "star": {1: "8a48bea084c9a6ad"},
    "intentqa": {1: "029220d7f8f22ece"},
    "causal_vid_instruct": {4: "67e32998d2e3e88b"},
    "ego4d": {1: "20bc2fa37c4e5128"},
    "something_something": {1: "13ae2078ed13fc90"},
    "activitynet_captions": {1: "6bd78a2ebdf43799"},
    "subtitled_videos": {1: "7ccdc9515a5c40d1"},
    "llava": {2: "eed3f0b94e54872e"},
    "chat_messages": {2: "7de0ed08b96a3b1f"},
    "huggingface": {2: "b48ae7cf85f3c430", 3: "b48ae7cf85f3c430"},
}
"""Digests of the rows of each version of a reader; older versions may be deleted."""

VALUES: tuple[Any, ...] = (None, 17, ["x"], "", "nan", " padded ", -0.5)


def damaged(rows: list[Any]) -> Iterator[list[Any]]:
    """The rows as they are, and with one value of the first row after another replaced."""
    yield rows
    for number, steps in enumerate(_paths(rows[0])):
        changed = copy.deepcopy(rows)
        holder = changed[0]
        for step in steps[:-1]:
            holder = holder[step]
        holder[steps[-1]] = VALUES[number % len(VALUES)]
        yield changed


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (key,)
        if isinstance(item, dict | list):
            yield from ((key, *rest) for rest in _paths(item))


def write_shard(root: Path) -> None:
    (root / "train").mkdir(parents=True)
    texts = {"a.mp4": "video", "a.txt": "A dog.", "b.mp4": "video", "b.json": "{", "c.txt": "Lost."}
    with tarfile.open(root / "train/0.tar", "w") as tar:
        for name, text in texts.items():
            (root / name).write_text(text)
            tar.add(root / name, name)


def write_data_set(root: Path) -> None:
    root.mkdir(parents=True)
    row = {"media": "a.mp4", "prompt": "Why?", "options": ["a", "b"], "answer_index": 1, "start": 2}
    rows = [row, row | {"answer_index": 5}, row | {"start": None}, row | {"media": None}]
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_subtitles(root: Path) -> None:
    (root / "train").mkdir(parents=True)
    cues = "".join(
        f"00:{start:02}.000 --> 00:{start + 2:02}.000\n{text}\n\n"
        for start, text in ((1, "A dog"), (3, "runs."), (9, "It stops"), (20, "nan"))
    )
    files = {"a.mp4": "video", "a.en.vtt": f"WEBVTT\n\n{cues}", "b.mp4": "video"}
    for name, text in (files | {"c.mkv": "video", "c.vtt": "WEBVTT\n\nx --> y\nz\n"}).items():
        (root / "train" / name).write_text(text)


def folders_of(reader: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Small corpora in a reader's format, each with the split to read."""
    others: dict[str, Callable[[Path], None]]
    others = {
        "webdataset": write_shard,
        "huggingface": write_data_set,
        "subtitled_videos": write_subtitles,
    }
    if reader in others:
        others[reader](folder / reader)
        yield folder / reader, "train"
        return
    (corpus,) = (corpus for corpus in TINY_CORPORA if corpus.reader == reader)
    for number, rows in enumerate(damaged(corpus.rows)):
        root = folder / str(number)
        corpus.write(root, rows)
        yield root, corpus.split


def digest(reader: str, folder: Path) -> str:
    """A hash of all examples of these corpora, and of what was left out."""
    outcomes = []
    for root, split in folders_of(reader, folder):
        skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)
        examples = []
        try:
            for example in READERS[reader].read(Files(root), split, skipped):
                examples.append(asdict(example))
        except ValueError:
            examples.append({"error": True})
        outcome = json.dumps([examples, skipped.causes, skipped.remarks])
        outcomes.append(outcome.replace(str(root), "<root>"))
    return hashlib.sha256("\n".join(outcomes).encode()).hexdigest()[:16]


@pytest.mark.parametrize("reader", READERS)
def test_what_a_reader_gives_belongs_to_its_version(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    version, known = READERS[reader].version, DIGESTS.get(reader, {})
    actual = digest(reader, tmp_path / "corpora")
    assert version in known, f"record version {version} of {reader} in DIGESTS: {actual!r}"
    assert actual == known[version], (
        f"the same files give other examples: raise the version of {reader!r} in "
        f"data_modules/readers.py to {version + 1}, and record {actual!r} for it here"
    )
