"""``FeatureStore``: visual tokens on disk, addressed by what they were made from.

A key names the video's content, the perceived span and everything that perception depends on, so
nothing in the store is ever out of date: a changed video, span or configuration has another key.
Any number of processes may write; each writes shard files of its own, a shard is renamed into place
when it is complete, and readers look for new shards when a key is not found. Being killed costs a
process the entries that it had not yet written, never a shard.
"""

import hashlib
import json
import os
import time
import uuid
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Literal

import torch

from vidreason.perception.visual_tokens import VisualTokens
from vidreason.store.shards import (
    SUFFIX,
    Shard,
    read_entry,
    read_header,
    write_shard,
)
from vidreason.video.file_hashes import FileHashes


@dataclass(kw_only=True)
class StoreConfig:
    """Where visual tokens are kept and how."""

    path: str = ""
    """Folder of the store, made when needed. Empty: no store, every video is perceived each
    time."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number type of the stored features. ``float32`` keeps every bit of what perception gave;
    ``bfloat16`` takes half the space, and features are then rounded whether they come from the
    store or were just put there."""
    shard_megabytes: int = 64
    """A process writes a shard when its waiting entries reach this size,"""
    flush_seconds: float = 60.0
    """or, if that is earlier, when one has waited this long and another comes. A killed process
    loses no more."""

    def __post_init__(self) -> None:
        if self.shard_megabytes < 1:
            raise ValueError(
                f"store.shard_megabytes: expected at least 1, found {self.shard_megabytes}"
            )
        if self.flush_seconds < 0:
            raise ValueError(f"store.flush_seconds: expected 0 or more, found {self.flush_seconds}")


def feature_key(
    video_hash: str,
    start_seconds: float | None,
    end_seconds: float | None,
    perceiver_fingerprint: str,
) -> str:
    """The key of a span of a video as one perceiver sees it: 32 hex digits."""
    span = [None if time is None else float(time) for time in (start_seconds, end_seconds)]
    identity = json.dumps([video_hash, span, perceiver_fingerprint])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


class FeatureStore:
    """Visual tokens on disk, for one thread of each of any number of processes."""

    def __init__(self, config: StoreConfig) -> None:
        if not config.path:
            raise ValueError("store.path: empty; give the folder that the store is to be kept in")
        self.config = config
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.file_hashes = FileHashes(Path(config.path) / "file_hashes")
        self._shard_folder = Path(config.path) / "shards"
        self._shards: dict[str, Shard] = {}
        self._shard_of_key: dict[str, Shard] = {}
        self._listed_mtime_ns: int | None = None
        self._writer = self._new_writer()

    def get(self, key: str) -> VisualTokens | None:
        """The tokens under ``key``, or None; features are float32, rounded to the store's dtype.

        Raises:
            FeatureStoreError: A shard is damaged; the message names it.
        """
        if key in self._writer.waiting:
            return self._writer.waiting[key]
        if key not in self:
            return None
        return read_entry(self._shard_of_key[key], key)

    def put(self, key: str, tokens: VisualTokens) -> VisualTokens:
        """Keep ``tokens`` under ``key`` and return them as :meth:`get` will give them.

        They reach the disk with the next shard; see :meth:`flush`.
        """
        rounded = replace(tokens, features=tokens.features.to(self.dtype).float())
        if self._writer.process_id != os.getpid():  # a forked child must not write its parent's
            self._writer = self._new_writer()
        if key not in self:
            self._writer.add(key, rounded)
        return rounded

    def flush(self) -> None:
        """Write all waiting entries; the end of the process does it too, unless it is a kill."""
        self._writer.flush()

    def refresh(self) -> None:
        """Take notice of shards that were added to or removed from the folder."""
        try:
            mtime_ns = self._shard_folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if mtime_ns == self._listed_mtime_ns:
            return
        names = {name for name in os.listdir(self._shard_folder) if name.endswith(SUFFIX)}
        # The clock of modification times is coarse: a folder that was changed just now may change
        # again without showing it.
        recent = time.time_ns() - mtime_ns < 2_000_000_000
        self._listed_mtime_ns = None if recent else mtime_ns
        if self._shards.keys() - names:  # somebody deleted shards: index what is left again
            self._shards = {name: self._shards[name] for name in self._shards.keys() & names}
            self._shard_of_key = {}
            for shard in self._shards.values():
                self._index(shard)
        for name in sorted(names - self._shards.keys()):
            self._shards[name] = read_header(self._shard_folder / name)
            self._index(self._shards[name])

    def hash_video(self, path: str) -> str:
        """The sha256 of a video file's content, remembered by path, size and modification time.

        Raises:
            OSError: The file is missing or unreadable.
        """
        return self.file_hashes.of(path)

    def __contains__(self, key: str) -> bool:
        if key in self._shard_of_key or key in self._writer.waiting:
            return True
        self.refresh()
        return key in self._shard_of_key

    @property
    def num_entries(self) -> int:
        """Number of entries, those on disk as of the last refresh and those waiting here."""
        return len(self._shard_of_key.keys() | self._writer.waiting.keys())

    def _index(self, shard: Shard) -> None:
        if shard.dtype == self.dtype:  # shards of the other number type are another store's
            self._shard_of_key.update(dict.fromkeys(shard.entries, shard))

    def _new_writer(self) -> "_Writer":
        writer = _Writer(self.config, self.dtype)
        # Unlike atexit, this also runs when a DataLoader worker ends or the store is dropped.
        Finalize(self, writer.flush, exitpriority=0)
        return writer

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process reads the headers itself; what waits here is written here.
        return {"config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        FeatureStore.__init__(self, state["config"])


class _Writer:
    """The entries of one process that are not on disk yet."""

    def __init__(self, config: StoreConfig, dtype: torch.dtype) -> None:
        self.process_id = os.getpid()
        self.waiting: dict[str, VisualTokens] = {}
        self._config = config
        self._dtype = dtype
        self._name = uuid.uuid4().hex
        self._num_bytes = 0
        self._oldest_seconds = 0.0
        self._num_shards = 0

    def add(self, key: str, tokens: VisualTokens) -> None:
        if (
            self.waiting
            and next(iter(self.waiting.values())).features.shape[1:] != (tokens.features.shape[1:])
        ):
            self.flush()  # a shard holds one width
        if not self.waiting:
            self._oldest_seconds = time.monotonic()
        self.waiting[key] = tokens
        num_counts = sum(len(mask["counts"]) for mask in tokens.masks if mask)
        self._num_bytes += tokens.features.numel() * self._dtype.itemsize + 4 * num_counts
        waited = time.monotonic() - self._oldest_seconds
        if (
            self._num_bytes >= self._config.shard_megabytes * 2**20
            or waited >= self._config.flush_seconds
        ):
            self.flush()

    def flush(self) -> None:
        if not self.waiting or self.process_id != os.getpid():
            return
        folder = Path(self._config.path) / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._name}-{self._num_shards:06d}{SUFFIX}"
        write_shard(folder / name, self.waiting, self._dtype)
        self._num_shards += 1
        self._num_bytes = 0
        self.waiting = {}
