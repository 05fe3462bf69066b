"""``FeatureStore``: visual tokens on disk, addressed by what they were made from.

A key names the video's content, the perceived span and everything that perception depends on, so
nothing in the store is ever out of date: a changed video, span or configuration has another key.
Any number of processes on any number of nodes may write; each writes shard files of its own, a
shard is renamed into place when it is complete, and readers look for new shards when a key is not
found. Being killed costs a process the entries that it had not yet written, never a shard. No file
is locked and none is written by two processes, so a folder on NFS will do.

A store's folder holds ``shards/`` (the entries), ``index/`` (where they are: made from the shards,
see :mod:`vidreason.store.feature_index`), ``media/`` (content hashes of the videos by name),
``weights/`` (those of the perceivers' weights by location) and ``perceivers/`` (which configuration
each fingerprint stands for).
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from vidreason.atomic_file import unique_path, write_atomically
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.store.config import StoreConfig
from vidreason.store.entries import decode_entry, encode_entry, num_tokens_of
from vidreason.store.feature_index import SHARDS_FOLDER, FeatureIndex
from vidreason.store.media_table import MediaTable
from vidreason.store.shards import (
    KEY_BYTES,
    SUFFIX,
    FeatureStoreError,
    read_entry,
    read_num_tokens,
    unreadable,
    write_shard,
)
from vidreason.store.weights_table import WeightsTable
from vidreason.video.unrecorded import tell_once

T = TypeVar("T")

MEDIA_FOLDER = "media"
WEIGHTS_FOLDER = "weights"
PERCEIVERS_FOLDER = "perceivers"

_NOT_KEPT = "this user may not write there: what is missing is perceived each time, and not stored"

_REMOVED = (errno.ENOENT, errno.ESTALE)
"""Errors of opening a removed file; the second one on NFS."""


class FeatureKey(NamedTuple):
    """A span of a video as one perceiver sees it."""

    video_hash: str
    """The sha256 of the video's content, as hex digits."""
    start_seconds: float | None
    """None for the start of the video."""
    end_seconds: float | None
    """None for the end of the video."""
    fingerprint: str
    """:func:`~vidreason.perception.perceiver.perceiver_fingerprint`: sampling, encoder and
    segmenter with the content of their weights, transform."""

    def digest(self, dtype: str) -> bytes:
        """The 16 bytes under which a store of this dtype keeps the entry."""
        span = [None if time is None else float(time) for time in self[1:3]]
        identity = json.dumps([self.video_hash, span, self.fingerprint, dtype])
        return hashlib.sha256(identity.encode()).digest()[:KEY_BYTES]


class FeatureStore:
    """Visual tokens on disk, for one thread of each of any number of processes.

    Raises:
        FeatureStoreError: A shard is damaged; the message names it and the remedy.
    """

    def __init__(self, config: StoreConfig) -> None:
        if not config.path:
            raise ValueError("store.path: empty; give the folder that the store is to be kept in")
        self.config = config
        self.folder = Path(config.path)
        self.media = MediaTable(self.folder / MEDIA_FOLDER, check=config.check_media)
        self.weights = WeightsTable(self.folder / WEIGHTS_FOLDER)
        self.index = FeatureIndex(self.folder)
        self._writer = self._new_writer()
        self._is_writable: bool | None = None

    def get(self, key: FeatureKey) -> VisualTokens | None:
        """The tokens under ``key``, or None; features are float32, rounded to the store's dtype.

        Raises:
            FeatureStoreError: The entry is damaged; the message names the shard and the remedy.
        """
        digest = key.digest(self.config.dtype)
        content = self._writer.waiting_entry(digest) or self._read(digest, read_entry)
        if content is None and self.index.look_again():
            content = self._read(digest, read_entry)
        return None if content is None else decode_entry(digest, content)

    def num_tokens(self, key: FeatureKey) -> int | None:
        """How many tokens there are under ``key``, by a few bytes of the entry; None if missing.

        Raises:
            FeatureStoreError: The entry is cut off.
        """
        digest = key.digest(self.config.dtype)
        waiting = self._writer.waiting_entry(digest)
        if waiting is not None:
            return num_tokens_of(waiting)
        number = self._read(digest, read_num_tokens)
        if number is None and self.index.look_again():
            number = self._read(digest, read_num_tokens)
        return number

    def put(self, key: FeatureKey, tokens: VisualTokens) -> VisualTokens:
        """Keep ``tokens`` under ``key`` and return them as :meth:`get` will give them.

        They reach the disk with the next shard; see :meth:`flush`. Where this process may not
        write, as in another user's store, they are not kept; that is said once.

        Raises:
            FeatureStoreError: A shard had to be written and could not be, as on a full disk.
        """
        digest = key.digest(self.config.dtype)
        content = encode_entry(digest, tokens, self.config.dtype)
        if not self._may_write():
            tell_once(self.folder / SHARDS_FOLDER, _NOT_KEPT)
            return decode_entry(digest, content)
        if self._writer.process_id != os.getpid():  # a forked child must not write its parent's
            self._writer = self._new_writer()
        # The folder is not listed again for it: what that could spare is a second copy, which does
        # no harm, and it would be work for each entry.
        if self._writer.waiting_entry(digest) is None and self.index.find(digest) is None:
            self.index.include(self._writer.add(key.fingerprint, digest, content))
        return decode_entry(digest, content)

    def flush(self) -> None:
        """Write all waiting entries; the end of the process does it too, unless it is a kill.

        Raises:
            FeatureStoreError: They cannot be written; they go on waiting.
        """
        self.index.include(self._writer.flush())

    @property
    def num_waiting(self) -> int:
        """Entries of this process that are not on the disk yet: those put last."""
        return self._writer.num_waiting

    def describe(self, fingerprint: str, perceiver: Mapping[str, Any]) -> None:
        """Write down, once, which configuration a perceiver's fingerprint stands for."""
        path = self.folder / PERCEIVERS_FOLDER / f"{fingerprint}.json"
        if not path.exists() and self._may_write():
            write_atomically(path, json.dumps(perceiver, indent=2, sort_keys=True) + "\n")

    def require_writable(self) -> None:
        """Raise a ``FeatureStoreError`` where :meth:`put` would not keep anything."""
        if not self._may_write():
            raise FeatureStoreError(
                f"store.path: this user may not write into {str(self.folder)!r}; give another "
                "folder (what is in this one can be read by fit and evaluate all the same)"
            )

    def _may_write(self) -> bool:
        """Return whether shards can be added, by the permissions of the folder or of one above."""
        if self._is_writable is None:
            # The nearest folder that is there: a new store is made when it is first written to.
            folder = self.folder / SHARDS_FOLDER
            while not folder.exists():
                folder = folder.parent
            self._is_writable = os.access(folder, os.W_OK | os.X_OK)
        return self._is_writable

    def __contains__(self, key: FeatureKey) -> bool:
        digest = key.digest(self.config.dtype)
        if self._writer.waiting_entry(digest) is not None or self.index.find(digest) is not None:
            return True
        return self.index.look_again() and self.index.find(digest) is not None

    def _read(self, digest: bytes, read: Callable[[Path, bytes, int, int], T]) -> T | None:
        """Return what ``read`` gives for an entry; None where there is none (any more)."""
        location = self.index.find(digest)
        if location is None:
            return None
        path = self.index.shard_folder / location.shard
        try:
            return read(path, digest, location.offset, location.length)
        except OSError as error:
            if error.errno not in _REMOVED:
                raise unreadable(path, error) from error
            self.index.refresh()  # the shard was removed since it was listed
            return None

    def _new_writer(self) -> "_Writer":
        writer = _Writer(self.config)
        # Unlike atexit, this also runs when a DataLoader worker ends or the store is dropped.
        Finalize(self, writer.flush, exitpriority=0)
        return writer

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process reads the index itself; what waits here is written here.
        return {"config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        FeatureStore.__init__(self, state["config"])


class _Writer:
    """The entries of one process that are not on disk yet."""

    def __init__(self, config: StoreConfig) -> None:
        self.process_id = os.getpid()
        self._config = config
        self._waiting: dict[str, dict[bytes, bytes]] = {}
        self._num_bytes = 0
        self._oldest_seconds = 0.0

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waiting_entry(self, digest: bytes) -> bytes | None:
        return next((group[digest] for group in self._waiting.values() if digest in group), None)

    def add(self, fingerprint: str, digest: bytes, content: bytes) -> list[str]:
        """Let an entry wait; return the shards written because too many did or for too long."""
        if not self._waiting:
            self._oldest_seconds = time.monotonic()
        self._waiting.setdefault(fingerprint, {})[digest] = content
        self._num_bytes += len(content)
        waited = time.monotonic() - self._oldest_seconds
        if (
            self._num_bytes >= self._config.shard_megabytes * 2**20
            or waited >= self._config.flush_seconds
        ):
            return self.flush()
        return []

    def flush(self) -> list[str]:
        """Write what waits, if this process has put it there; return the new shards' names."""
        if self.process_id != os.getpid():
            return []
        written = []
        folder = Path(self._config.path) / SHARDS_FOLDER
        for fingerprint, entries in list(self._waiting.items()):  # a shard holds one
            path = unique_path(folder, SUFFIX)
            write_shard(path, entries, fingerprint=fingerprint, dtype=self._config.dtype)
            # Only now: entries that could not be written go on waiting.
            del self._waiting[fingerprint]
            written.append(path.name)
        self._num_bytes = 0
        return written


__all__ = ["FeatureKey", "FeatureStore", "FeatureStoreError", "StoreConfig"]
