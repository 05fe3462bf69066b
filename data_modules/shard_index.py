"""Tar shards, indexed once: where each member's bytes are, so that samples are read by byte range.

The layout is WebDataset's (as video2dataset writes it): the members of one sample follow one
another and share their name up to the first dot of its last part.

An index is a few Parquet files in the cache, each with one row group a shard; the shards' sizes and
versions stand in the files' footers. Only shards that are new or have changed are read again, by
several processes, and the result is added as further files. A shard is passed over, not read: of a
local one its headers and small texts, of a remote one as little as its store allows.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_modules.index_cache import cache_folder, digest, exclusive
from data_modules.shard_scan import Scanned, scan_shard
from vidreason.atomic_file import atomic_file
from vidreason.cores import free_cores
from vidreason.video.media import TarMember, is_remote, open_media

SHARDS_A_FILE = 256
"""How many shards one Parquet file holds: what a killed indexing has to do again."""
MIN_SHARDS_A_PROCESS = 8
"""With fewer a process costs more than it saves."""

VERSION = 2
"""Raise it whenever the same shards give another index: those of an older version are not read."""

_SCHEMA = pa.schema(
    [("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("text", pa.binary())]
)


class ShardMember(NamedTuple):
    """One file in a shard."""

    media: str
    """As :mod:`vidreason.video.media` names it."""
    content: bytes | None
    """Content of small texts."""

    def read(self) -> bytes:
        """The content of the member.

        Raises:
            OSError: Its shard is missing or cannot be reached.
        """
        if self.content is not None:
            return self.content
        with open_media(self.media) as file:
            return file.read()


@dataclass(frozen=True, kw_only=True)
class ShardSample:
    """The members of one sample."""

    shard: str
    """Path or URL."""
    key: str
    """The members' name up to the first dot of its last part."""
    members: Mapping[str, ShardMember]
    """By extension: the rest of the name, in lower case, without the dot."""
    repeated: tuple[str, ...] = ()
    """Extensions of members that came later in the shard under the same names."""


class IndexedShard(NamedTuple):
    """One shard, as it was scanned."""

    media: str
    """Path or URL."""
    num_members: int
    """Members that are there in full."""
    failures: tuple[str, ...]
    """Other content, and losses, each as ``cause: detail``; none for a sound shard."""
    file: str
    """The Parquet file with its members,"""
    row_group: int
    """and which row group of it."""


class ShardIndex:
    """All shards below one folder, in order of their names."""

    def __init__(self, shards: Sequence[IndexedShard]) -> None:
        self.shards = list(shards)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Causes of what cannot be read, each with its shard."""
        return [(shard.media, failure) for shard in self.shards for failure in shard.failures]

    def by_shard(self) -> Iterator[tuple[str, Iterator[ShardSample]]]:
        """Each shard with its samples, in the order in which they lie."""
        file_name, file = "", None
        for shard in self.shards:
            if file is None or shard.file != file_name:
                file_name, file = shard.file, pq.ParquetFile(shard.file)
            columns = file.read_row_group(shard.row_group).to_pydict()
            yield shard.media, _group(shard.media, columns)


def open_shard_index(
    folder: str, listed: Mapping[str, tuple[int, str]], num_processes: int | None = None
) -> ShardIndex:
    """Index the tar shards below ``folder``, as far as that has not been done.

    Args:
        folder: A path or an fsspec URL.
        listed: Its shards with their states, by :func:`data_modules.files.list_shards`.
        num_processes: How many read shards at a time; None for one a core.

    Raises:
        OSError: A shard cannot be read.
        ValueError: There is no shard below it.
    """
    if not any(shard.lower().endswith(".tar") for shard in listed):
        raise ValueError(
            f"there is no .tar file below {folder!r}: check the corpus' root (compressed shards, "
            "such as .tar.gz, cannot be read by byte range; unpack them to .tar)"
        )
    location = folder if is_remote(folder) else os.path.abspath(folder)
    files = cache_folder() / "shards" / f"{digest([VERSION, location])}"
    # One process reads the shards; the others wait, and find them read.
    with exclusive(files):
        known = _read_footers(files)
        missing = [
            shard
            for shard, state in listed.items()
            if shard not in known or known[shard][0] != state
        ]
        if missing:
            _index(missing, listed, files, num_processes or free_cores())
            known = _read_footers(files)
    return ShardIndex([known[shard][1] for shard in listed])


def _index(
    shards: Sequence[str], listed: Mapping[str, tuple[int, str]], files: Path, num_processes: int
) -> None:
    """Scan ``shards`` and add them to the index in ``files``, a Parquet file at a time."""
    sizes = [listed[shard][0] for shard in shards]
    # New files sort after the old ones, so that their word on a shard counts.
    first = sum(1 for _ in files.glob("*.parquet"))  # files are only ever added
    with ExitStack() as stack:
        scanned: Iterator[Scanned] = map(scan_shard, shards, sizes)
        num_processes = min(num_processes, len(shards) // MIN_SHARDS_A_PROCESS)
        if num_processes > 1:
            # Spawned: a process forked while libraries have threads may hang on one of their locks.
            spawned = ProcessPoolExecutor(num_processes, mp_context=get_context("spawn"))
            pool = stack.enter_context(spawned)
            scanned = pool.map(scan_shard, shards, sizes, chunksize=4)
        for number, start in enumerate(range(0, len(shards), SHARDS_A_FILE), start=first):
            footer = []
            path = files / f"{number:06d}.parquet"
            with atomic_file(path) as file, pq.ParquetWriter(file, _SCHEMA) as writer:
                for shard in shards[start : start + SHARDS_A_FILE]:
                    members, failures = next(scanned)
                    columns = zip(*members, strict=True) if members else [[]] * len(_SCHEMA)
                    table = pa.table(list(map(list, columns)), schema=_SCHEMA)
                    # A row group even for a shard without members: their numbers must agree.
                    writer.write_table(table, row_group_size=max(len(table), 1))
                    footer.append([shard, *listed[shard], len(table), failures])
                writer.add_key_value_metadata({"shards": json.dumps(footer)})


def _read_footers(files: Path) -> dict[str, tuple[tuple[int, str], IndexedShard]]:
    """Each shard's state when it was indexed, and where; the newest file's word counts."""
    known = {}
    for path in sorted(files.glob("*.parquet")):
        metadata = pq.read_metadata(path).metadata
        for row_group, row in enumerate(json.loads(metadata[b"shards"])):
            shard, size, version, num_members, failures = row
            indexed = IndexedShard(shard, num_members, tuple(failures), str(path), row_group)
            known[shard] = (size, version), indexed
    return known


def _group(shard: str, columns: dict[str, list[Any]]) -> Iterator[ShardSample]:
    """The samples of one shard, in the order of their first members.

    Members that follow one another are a run. A later run of the same key belongs to the sample
    too, as in a shard with all videos before all texts, unless it brings something that the sample
    has: then nobody can tell what belongs together, and the first run holds.
    """
    # Members that follow one another under one key.
    runs: list[tuple[str, dict[str, ShardMember]]] = []
    for name, offset, size, text in zip(*columns.values(), strict=True):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        key, extension = folder + slash + stem, extension.lower()
        # An extension that the run has already begins another run.
        if not runs or runs[-1][0] != key or extension in runs[-1][1]:
            runs.append((key, {}))
        media = TarMember(shard, offset, size, name).media
        runs[-1][1][extension] = ShardMember(media, text)
    # Runs of one key are one sample unless they bring the same extension twice.
    samples: dict[str, dict[str, ShardMember]] = {}
    repeated: dict[str, list[str]] = {}
    for key, members in runs:
        known = samples.setdefault(key, {})
        if known.keys() & members.keys():
            repeated.setdefault(key, []).extend(members)
        else:
            known.update(members)
    for key, members in samples.items():
        again = tuple(repeated.get(key, ()))
        yield ShardSample(shard=shard, key=key, members=members, repeated=again)
