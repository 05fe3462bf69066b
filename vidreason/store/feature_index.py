"""Locations of entries in the store's shards, for a hundred million of them.

The shards' own headers are the truth. Reading all of them at each start would take minutes in a
large store, so the index of many shards is written down as a sorted table (a *segment*), which is
searched where it lies; the headers of the shards that no segment covers are read into memory. A
segment is never changed: a later one covers more shards and takes its place.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.atomic_file import unique_path
from vidreason.store.shards import SUFFIX, Shard, read_header, unreadable
from vidreason.store.sorted_table import (
    Rows,
    SortedTable,
    list_tables,
    merge_tables,
    table_of,
)

SEGMENT_SUFFIX = ".index"
SHARDS_FOLDER = "shards"
INDEX_FOLDER = "index"
WAIT_PER_LISTING = 20.0
"""Seconds between two listings of the folder of shards, per second that the last one took."""
COVER_AFTER_SHARDS = 256
"""Uncovered shards that make a new segment worth its while."""

_ROW = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("length", "<u4")])


class Location(NamedTuple):
    """The location of an entry."""

    shard: str
    """File name in the folder of shards."""
    offset: int
    """In bytes from the start of the file."""
    length: int


@dataclass(kw_only=True, eq=False)
class Segment:
    """The entries of some shards."""

    name: str
    """Its file in the folder of segments; empty for what is in memory only."""
    table: SortedTable
    shards: list[str]
    """File names, by the numbers that the table's rows give."""
    counts: list[int]
    """How many entries each shard has."""
    alive: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """Which of the shards are in the folder."""

    def find(self, key: bytes) -> Location | None:
        """Return the location of an entry, unless its shard is gone."""
        for row in self.table.find(key):
            if self.alive[row["shard"]]:
                number = int(row["shard"])
                return Location(self.shards[number], int(row["offset"]), int(row["length"]))
        return None


class FeatureIndex:
    """The index of one store, as one process sees it."""

    def __init__(self, folder: Path) -> None:
        self.shard_folder = folder / SHARDS_FOLDER
        self.segment_folder = folder / INDEX_FOLDER
        self._segments: list[Segment] = []
        # The uncovered shards' entries, in tables of which each has more entries than the next.
        self._fresh: list[Segment] = []
        self._headers: dict[str, Shard] = {}
        self._listed_mtime_ns: int | None = None
        self._listed_at_seconds = -float("inf")
        self._listing_took_seconds = 0.0
        self.refresh()

    @property
    def num_entries(self) -> int:
        """Entries in the shards that are there; one that two processes wrote counts twice."""
        return sum(
            count
            for segment in (*self._segments, *self._fresh)
            for count, alive in zip(segment.counts, segment.alive, strict=True)
            if alive
        )

    def find(self, key: bytes) -> Location | None:
        """Return the location of ``key``'s entry as of the last refresh; None if it is missing."""
        for segment in (*self._fresh, *self._segments):
            location = segment.find(key)
            if location is not None:
                return location
        return None

    def look_again(self) -> bool:
        """Refresh if the folder of shards has changed; for use whenever a key is not found.

        In a folder of very many shards listing takes long, and ten thousand processes change it all
        the time; so this process waits :data:`WAIT_PER_LISTING` times as long as it took.

        Returns: Whether it was refreshed.
        """
        try:
            mtime_ns = self.shard_folder.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        waited = time.monotonic() - self._listed_at_seconds
        # A listing of less than 10 ms is not waited for.
        wait = WAIT_PER_LISTING * self._listing_took_seconds - 0.2
        if mtime_ns == self._listed_mtime_ns or waited < wait:
            return False
        self.refresh()
        return True

    def refresh(self) -> None:
        """Take notice of shards that were added or removed.

        Raises:
            FeatureStoreError: A shard that no segment covers is damaged.
        """
        started = time.monotonic()
        try:
            mtime_ns = self.shard_folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        with os.scandir(self.shard_folder) as files:
            names = {file.name for file in files if file.name.endswith(SUFFIX)}
        # Opened once; after cover() all of them anew.
        if not self._segments:
            tables, _ = list_tables(self.segment_folder, SEGMENT_SUFFIX)
            self._segments = [segment_of(path.name, table) for path, table in tables.items()]
        for segment in self._segments:
            segment.alive = np.array([name in names for name in segment.shards], dtype=np.bool_)
        names.difference_update(*(segment.shards for segment in self._segments))
        if not names.issuperset(self._headers):  # a shard was removed
            self._headers, self._fresh, kept = {}, [], self._headers
            self._add({name: header for name, header in kept.items() if name in names})
        self.include(sorted(names))
        # The clock of modification times is coarse: a folder that was changed just now may change
        # again without showing it.
        recent = time.time_ns() - mtime_ns < 2_000_000_000
        self._listed_mtime_ns = None if recent else mtime_ns
        self._listed_at_seconds = time.monotonic()
        self._listing_took_seconds = self._listed_at_seconds - started

    def include(self, names: Iterable[str]) -> None:
        """Take notice of shards that are there, such as those this process has just written."""
        headers = {name: self._read(name) for name in names if name not in self._headers}
        self._add({name: header for name, header in headers.items() if header is not None})

    def cover(self, at_least: int = COVER_AFTER_SHARDS) -> bool:
        """Write a segment of the uncovered shards, together with the smaller segments.

        Any process may do this at any time; two at once write more than is needed, nothing wrong.
        The segments that are superseded stay, for processes that search them, until they are
        collected as garbage.

        Args:
            at_least: How many uncovered shards there must be; 0 writes one segment of everything,
            unless there is just that.

        Returns: Whether a segment was written.
        """
        self.refresh()
        # One segment of shards that are all there is as good as it gets.
        is_whole = not self._headers and len(self._segments) <= 1
        if len(self._headers) < at_least or (is_whole and all(map(_is_alive, self._segments))):
            return False
        merged, size = [*self._fresh], sum(len(fresh.table) for fresh in self._fresh)
        # Each entry is rewritten only when the segment that it is in at least doubles.
        for segment in sorted(self._segments, key=lambda segment: len(segment.table)):
            if not at_least or len(segment.table) <= size:
                merged.append(segment)
                size += len(segment.table)
        write_segment(unique_path(self.segment_folder, SEGMENT_SUFFIX), merged)
        # Forgotten, so that the new segment is found in the place of what it covers.
        self._segments, self._headers, self._fresh = [], {}, []
        self.refresh()
        return True

    def _add(self, headers: dict[str, Shard]) -> None:
        """Make the entries of new shards known; without any, nothing is touched.

        A table is sorted again only together with at least as many new entries, so that each entry
        is sorted as often as the number of entries doubles, not once for each new shard.
        """
        self._headers |= headers
        while headers and self._fresh:
            size = sum(map(len, headers.values()))
            if len(self._fresh[-1].table) > size:
                break
            headers = {name: self._headers[name] for name in self._fresh.pop().shards} | headers
        if headers:
            self._fresh.append(_segment_of(headers))

    def _read(self, name: str) -> Shard | None:
        try:
            return read_header(self.shard_folder / name)
        except FileNotFoundError:  # removed since the folder was listed
            return None
        except PermissionError as error:
            raise unreadable(self.shard_folder / name, error) from error


def segment_of(name: str, table: SortedTable) -> Segment:
    """Return the segment in a table's file; which of its shards are alive, the caller says."""
    shards = [str(shard) for shard, _ in table.info["shards"]]
    counts = [int(count) for _, count in table.info["shards"]]
    return Segment(name=name, table=table, shards=shards, counts=counts)


def write_segment(path: Path, segments: list[Segment]) -> None:
    """Write one segment of what ``segments`` list and is still there, each shard once."""
    # Numbers of shards in the new segment, by those in each old one; -1 for what is gone.
    numbers: dict[str, int] = {}
    shards: list[tuple[str, int]] = []
    translations = []
    for segment in segments:
        translation = np.full(len(segment.shards) + 1, -1, dtype=np.int64)
        for number, name in enumerate(segment.shards):
            if segment.alive[number] and name not in numbers:
                translation[number] = numbers[name] = len(shards)
                shards.append((name, segment.counts[number]))
        translations.append(translation)

    def translate(source: int, rows: Rows) -> tuple[NDArray[np.bool_], Rows]:
        renumbered = translations[source][rows["shard"]]
        moved = rows.copy()
        moved["shard"] = renumbered.clip(min=0)
        return renumbered >= 0, moved

    merge_tables(
        path,
        [segment.table for segment in segments],
        translate,
        count=sum(count for _, count in shards),
        dtype=_ROW,
        info={
            "shards": shards,
            "supersedes": [segment.name for segment in segments if segment.name],
        },
    )


def _is_alive(segment: Segment) -> bool:
    return bool(segment.alive.all())


def _segment_of(headers: dict[str, Shard]) -> Segment:
    """The entries of shards whose headers were read."""
    shards = list(headers.values())
    rows = np.empty(sum(map(len, shards)), dtype=_ROW)
    rows["shard"] = _concatenate([np.full(len(shard), n) for n, shard in enumerate(shards)])
    rows["offset"] = _concatenate([shard.offsets[:-1] for shard in shards])
    # a shard of n entries has n + 1 offsets
    rows["length"] = _concatenate([np.diff(shard.offsets) for shard in shards])
    keys = np.concatenate([np.empty((0, 16), np.uint8), *(shard.keys for shard in shards)])
    return Segment(
        name="",
        table=table_of(keys, rows),
        shards=list(headers),
        counts=[len(shard) for shard in shards],
        alive=np.ones(len(shards), dtype=np.bool_),
    )


def _concatenate(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *arrays])
