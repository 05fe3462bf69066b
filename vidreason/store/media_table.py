"""The store's table of content hashes: what each video is called, and what was in it.

A video's entries are found by its content. Reading the content to find them would cost more than
the entries save, and a cluster that trains may not have the videos at all; so every content hash
is written down with the video's name, size and time of change.
"""

import json
import time
from hashlib import blake2b, sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.atomic_file import process_name, unique_path
from vidreason.store.sorted_table import (
    Rows,
    SortedTable,
    list_tables,
    merge_tables,
    table_of,
)
from vidreason.video.media import MediaIdentity
from vidreason.video.reader import DIRECT, VideoReader, VideoReadError
from vidreason.video.unrecorded import recorded_if_possible, tell_once

LOG_SUFFIX = ".jsonl"
TABLE_SUFFIX = ".table"
COVER_AFTER_ROWS = 50_000
"""Rows outside the tables that make a new one worth its while."""

_NOT_RECORDED = (
    "content hashes of videos are not recorded there; each process reads such a video for its hash"
)

_NUMBERS = ("size", "version", "time")
_ROW = np.dtype([("content", "V32"), *((name, "<u8") for name in _NUMBERS)])


class Record(NamedTuple):
    """The content hash of one state of one video."""

    content: bytes
    """Its sha256."""
    size: int
    """In bytes."""
    version: int
    """A hash of the time of change, or of what a store tells instead."""
    time: int
    """When it was written down, in nanoseconds; the latest record of a video holds."""


class MediaTable:
    """Content hashes by media, each computed once for all processes of all nodes.

    Every process appends to a log of its own, one JSON line a video; a line that a killed process
    left unfinished is ignored. Logs are merged into sorted tables, which are searched on the disk.

    Args:
        folder: Where logs and tables are.
        check: Whether a video's size and time of change are looked at before its recorded hash is
            used. Without it a changed video goes unnoticed.
    """

    def __init__(self, folder: Path, *, check: bool = True) -> None:
        self.folder = folder
        self.check = check
        self._tables: dict[Path, SortedTable] = {}
        self._recent: dict[bytes, Record] = {}
        self._read_until: dict[str, int] = {}
        self._is_read = False
        self._log: Path | None = None

    def content_hash(self, media: str, reader: VideoReader = DIRECT) -> str:
        """The sha256 of what ``media`` holds, as hex digits.

        A video whose size or time of change is not the recorded one is read again. A video that
        cannot be looked at has its recorded hash. In a folder that cannot be written, which is said
        once, a new hash is known to this process only.

        Args:
            media: The video.
            reader: Looks at it, and reads it.

        Raises:
            VideoReadError: The video cannot be read, and was never hashed, or has changed since.
        """
        record = self.recorded(media)
        if record is not None:
            if not self.check:
                return record.content.hex()
            try:
                identity = reader.identify(media)
            except VideoReadError:
                return record.content.hex()
            if (record.size, record.version) == (identity.size, _version(identity)):
                return record.content.hex()
        content = reader.read_content(media)
        if content.is_settled:  # else right for now, but not to be remembered
            identity, digest = content.identity, bytes.fromhex(content.sha256)
            record = Record(digest, identity.size, _version(identity), time.time_ns())
            self._append(media, identity, record)
        return content.sha256

    def recorded(self, media: str) -> Record | None:
        """The latest record of ``media``, or None if it was never hashed."""
        if not self._is_read:
            self.refresh()
        key = _key(media)
        records = [self._recent[key]] if key in self._recent else []
        for table in self._tables.values():
            records += [
                Record(row["content"].tobytes(), *(int(row[name]) for name in _NUMBERS))
                for row in table.find(key)
            ]
        # A video that was changed has several records.
        return max(records, key=lambda record: record.time, default=None)

    @property
    def num_records(self) -> int:
        """Records on disk, as of the last refresh; a changed video has several."""
        if not self._is_read:
            self.refresh()
        return len(self._recent) + sum(map(len, self._tables.values()))

    def refresh(self) -> None:
        """Read what other processes have written since the last time."""
        if not self._is_read:
            self._tables, _ = list_tables(self.folder, TABLE_SUFFIX)
            for table in self._tables.values():
                for name, length in table.info["logs"].items():
                    # What a table has taken in of a log is not read again.
                    self._read_until[name] = max(length, self._read_until.get(name, 0))
        for path in sorted(self.folder.glob(f"*{LOG_SUFFIX}")):
            self._read_log(path)
        self._is_read = True

    def cover(self, at_least: int = COVER_AFTER_ROWS) -> bool:
        """Merge the logs' rows, and smaller tables, into one table if there are enough.

        Returns: Whether a table was written.
        """
        self.refresh()
        if len(self._recent) < max(at_least, 1):
            return False
        keys = np.frombuffer(b"".join(self._recent), np.uint8).reshape(-1, 16)
        records = [(np.void(record.content), *record[1:]) for record in self._recent.values()]
        sources = [table_of(keys, np.array(records, dtype=_ROW))]
        # Tables that are no larger than what is merged go in, so that each row is copied rarely.
        superseded = []
        for path, table in sorted(self._tables.items(), key=lambda item: len(item[1])):
            if len(table) <= sum(map(len, sources)):
                superseded.append(path.name)
                sources.append(table)
        merge_tables(
            unique_path(self.folder, TABLE_SUFFIX),
            sources,
            _keep_all,
            count=sum(map(len, sources)),
            dtype=_ROW,
            info={"logs": self._read_until, "supersedes": superseded},
        )
        self._tables, self._recent, self._is_read = {}, {}, False
        self.refresh()
        return True

    def _read_log(self, path: Path) -> None:
        start = self._read_until.get(path.name, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                lines = file.readlines()
        except FileNotFoundError:  # collected as garbage since it was listed
            return
        except PermissionError as error:
            tell_once(path, f"{error.strerror}: the content hashes in this log are not used")
            return
        for line in lines:
            if not line.endswith(b"\n"):
                break  # being written, or left so by a kill
            start += len(line)
            media, size, version, content, written = json.loads(line)
            version = _version(MediaIdentity(media, size, version))
            self._remember(media, Record(bytes.fromhex(content), size, version, written))
        self._read_until[path.name] = start

    def _remember(self, media: str, record: Record) -> None:
        key = _key(media)
        known = self._recent.get(key)
        if known is None or known.time <= record.time:  # the later one holds
            self._recent[key] = record

    def _append(self, media: str, identity: MediaIdentity, record: Record) -> None:
        self._remember(media, record)
        log, self._log = self._log, None  # a line that is not written whole must be its log's last
        with recorded_if_possible(self.folder, _NOT_RECORDED):
            self._log = self._write(log, media, identity, record)

    def _write(
        self, log: Path | None, media: str, identity: MediaIdentity, record: Record
    ) -> Path | None:
        """Append to ``log`` or to a new one; return the log if it may be appended to again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A log that was collected as garbage must not begin again under its name: how far it was
        # read is known by the name. A forked child needs one of its own.
        if log is None or not log.name.startswith(process_name()) or not log.exists():
            log = unique_path(self.folder, LOG_SUFFIX)
        row = [media, identity.size, identity.version, record.content.hex(), record.time]
        # ASCII, so that a line cut at any byte is still text; unbuffered, so that it is one write.
        line = json.dumps(row).encode("ascii") + b"\n"
        with log.open("ab", buffering=0) as file:
            return log if file.write(line) == len(line) else None


def _keep_all(source: int, rows: Rows) -> tuple[NDArray[np.bool_], Rows]:
    return np.ones(len(rows), dtype=np.bool_), rows


def _key(media: str) -> bytes:
    return sha256(media.encode("utf-8", "surrogateescape")).digest()[:16]


def _version(identity: MediaIdentity) -> int:
    return int.from_bytes(blake2b(identity.version.encode(), digest_size=8).digest(), "little")
