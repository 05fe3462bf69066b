"""Maintenance of a store: check it, repair it, count its entries, find garbage."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidreason.atomic_file import UNFINISHED, unique_path
from vidreason.store.entries import DamagedEntryError, decode_entry
from vidreason.store.feature_index import (
    INDEX_FOLDER,
    SEGMENT_SUFFIX,
    SHARDS_FOLDER,
    segment_of,
)
from vidreason.store.feature_store import MEDIA_FOLDER, PERCEIVERS_FOLDER
from vidreason.store.media_table import TABLE_SUFFIX
from vidreason.store.shards import SUFFIX, FeatureStoreError, Shard, read_header, write_shard
from vidreason.store.sorted_table import DamagedTableError, check_table, list_tables, table_of

DAMAGED_SUFFIX = ".damaged"
"""How a repair renames a shard that it has taken what was sound from."""


@dataclass(kw_only=True)
class Verdict:
    """Result of :func:`verify`."""

    num_shards: int = 0
    num_entries: int = 0
    """Sound ones."""
    damage: list[str] = field(default_factory=list)
    """A line for each thing that is not as it was written."""
    damaged_shards: list[str] = field(default_factory=list)
    damaged_tables: list[str] = field(default_factory=list)
    """Segments of the index, and tables of content hashes."""
    unfinished: list[str] = field(default_factory=list)
    """Files that writers have not finished, or were killed over. They harm nothing."""

    @property
    def is_clean(self) -> bool:
        """Return whether every entry can be read and the index agrees with the shards."""
        return not self.damage


def verify(folder: Path) -> Verdict:
    """Read everything: each entry with its checksum, and the index against the shards.

    A store may be written to meanwhile; what is added after the start is not looked at.
    """
    verdict = Verdict(unfinished=[str(path) for path in _unfinished(folder)])
    headers: dict[str, Shard] = {}
    for path in _shard_files(folder):
        try:
            headers[path.name] = read_header(path)
        except FileNotFoundError:  # removed since it was listed
            continue
        except FeatureStoreError as error:
            verdict.num_shards += 1
            _add_damage(verdict, path, str(error))
            continue
        verdict.num_shards += 1
        faults = dict(_faulty_entries(headers[path.name]))
        verdict.num_entries += len(headers[path.name]) - len(faults)
        if faults:
            first = next(iter(faults.values()))
            _add_damage(verdict, path, f"{len(faults)} entries are damaged, the first so: {first}")
    # The index says where entries are: it is compared with the shards that are sound.
    for path in sorted((folder / INDEX_FOLDER).glob(f"*{SEGMENT_SUFFIX}")):
        _verify_segment(path, headers, verdict)
    for path in sorted((folder / MEDIA_FOLDER).glob(f"*{TABLE_SUFFIX}")):
        try:
            check_table(path)
        except DamagedTableError as error:
            verdict.damage.append(str(error))
            verdict.damaged_tables.append(str(path))
    return verdict


def repair(folder: Path, verdict: Verdict) -> int:
    """Undo what :func:`verify` found: keep sound entries, set damaged files aside.

    The sound entries of a damaged shard are written to a new one before the old one is renamed, so
    this may be killed anywhere too.

    Returns: How many entries of damaged shards were kept.
    """
    num_kept = 0
    for name in verdict.damaged_shards:
        path = folder / SHARDS_FOLDER / name
        try:
            shard = read_header(path)
        except FeatureStoreError:
            shard = None  # without its header the keys of its entries are unknown
        if shard is not None:
            faults = dict(_faulty_entries(shard))
            sound = [number for number in range(len(shard)) if number not in faults]
            entries = {shard.key(number): bytes(shard.read(number)) for number in sound}
            if entries:
                new = unique_path(path.parent, SUFFIX)
                write_shard(new, entries, fingerprint=shard.fingerprint, dtype=shard.dtype)
            num_kept += len(entries)
        # Renamed, not removed: someone may want to look at it.
        path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
    for table in map(Path, verdict.damaged_tables):
        table.rename(table.with_name(table.name + DAMAGED_SUFFIX))
    return num_kept


class PerceiverStats(NamedTuple):
    """Statistics of one perceiver's entries of one dtype."""

    fingerprint: str
    dtype: str
    description: str
    """Its encoder and segmenter by name, as far as the store knows."""
    num_shards: int
    num_entries: int
    num_tokens: int
    num_bytes: int
    """Size of the entries."""


def store_stats(folder: Path) -> list[PerceiverStats]:
    """Count what is in a store by perceiver and dtype; reads the shards' headers only.

    Raises:
        FeatureStoreError: A shard is damaged; the message names it and the remedy.
    """
    shards: Counter[tuple[str, str]] = Counter()
    entries, tokens, num_bytes = shards.copy(), shards.copy(), shards.copy()
    for path in _shard_files(folder):
        shard = read_header(path)
        kind = shard.fingerprint, shard.dtype
        shards[kind] += 1
        entries[kind] += len(shard)
        tokens[kind] += int(shard.num_tokens.sum())
        num_bytes[kind] += int(shard.offsets[-1] - shard.offsets[0])
    return [
        PerceiverStats(
            *kind, _describe(folder, kind[0]), count, entries[kind], tokens[kind], num_bytes[kind]
        )
        for kind, count in sorted(shards.items())
    ]


class Garbage(NamedTuple):
    """A file that :func:`find_garbage` proposes to remove."""

    path: Path
    why: str
    num_bytes: int


def find_garbage(
    folder: Path, keep: Collection[str], *, older_than_seconds: float
) -> list[Garbage]:
    """List what can be removed from a store; nothing is removed.

    Args:
        folder: The store's.
        keep: Fingerprints whose entries stay, or beginnings of them.
        older_than_seconds: How long ago an unfinished or superseded file must have been changed:
            longer than any write takes, and than any process may still search an old index.

    Raises:
        FeatureStoreError: A shard is damaged; the message names it and the remedy.
        ValueError: ``keep`` is empty.
    """
    if not keep:
        raise ValueError("keep: empty; name the perceivers whose entries are wanted")
    # With the file whose time of change says since when each is of no use.
    candidates = [(path, path, "unfinished") for path in _unfinished(folder)]
    candidates += [(path, path, "damaged") for path in sorted(folder.rglob(f"*{DAMAGED_SUFFIX}"))]
    superseded = {
        **list_tables(folder / INDEX_FOLDER, SEGMENT_SUFFIX)[1],
        **_superseded_media_files(folder / MEDIA_FOLDER),
    }
    candidates += [(path, by, "superseded") for path, by in sorted(superseded.items())]
    limit = time.time() - older_than_seconds
    old = [(path, why) for path, by, why in candidates if _changed_at(by) <= limit]
    for path in _shard_files(folder):
        shard = read_header(path)
        if not shard.fingerprint.startswith(tuple(keep)):
            old.append((path, f"of the perceiver {shard.fingerprint[:12]}"))
    return [Garbage(path, why, path.stat().st_size) for path, why in old]


def _verify_segment(path: Path, headers: dict[str, Shard], verdict: Verdict) -> None:
    """Compare what a segment says with the headers of the shards that are there and sound."""
    try:
        segment = segment_of(path.name, check_table(path))
    except FileNotFoundError:  # removed since it was listed
        return
    except (DamagedTableError, KeyError, TypeError, ValueError) as error:
        verdict.damage.append(f"segment {str(path)!r} of the index is damaged: {error}")
        verdict.damaged_tables.append(str(path))
        return
    # Rows lie in the order of their keys: they are gathered by shard, each to be compared whole.
    order = np.argsort(segment.table.rows["shard"], kind="stable")
    # Where the rows of each shard end in that order.
    ends = np.cumsum(segment.counts)
    for number, name in enumerate(segment.shards):
        if name not in headers:
            continue
        shard = headers[name]
        listed = order[ends[number] - segment.counts[number] : ends[number]]
        rows = segment.table.rows[listed]
        detail = (segment.table.high[listed], segment.table.low[listed], rows["offset"])
        expected_rows = np.empty(len(shard), dtype=segment.table.rows.dtype)
        expected_rows["shard"] = number
        expected_rows["offset"] = shard.offsets[:-1]
        expected_rows["length"] = np.diff(shard.offsets)
        expected = table_of(shard.keys, expected_rows)
        if not (
            np.array_equal(detail[0], expected.high)
            and np.array_equal(detail[1], expected.low)
            and np.array_equal(rows, expected.rows)
        ):
            verdict.damage.append(f"segment {str(path)!r} of the index disagrees with shard {name}")
            verdict.damaged_tables.append(str(path))
            return


def _faulty_entries(shard: Shard) -> Iterator[tuple[int, str]]:
    for number in range(len(shard)):
        try:
            decode_entry(shard.key(number), shard.read(number))
        except (FeatureStoreError, DamagedEntryError) as error:
            yield number, str(error)


def _add_damage(verdict: Verdict, path: Path, detail: str) -> None:
    verdict.damage.append(f"{path.name}: {detail}")
    verdict.damaged_shards.append(path.name)


def _shard_files(folder: Path) -> list[Path]:
    return sorted((folder / SHARDS_FOLDER).glob(f"*{SUFFIX}"))


def _unfinished(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{UNFINISHED}"))


def _superseded_media_files(folder: Path) -> dict[Path, Path]:
    """Tables that another has taken in, and logs of which every line is in a sound table."""
    tables, superseded = list_tables(folder, TABLE_SUFFIX)
    for path, table in tables.items():
        if path not in superseded:
            check_table(path)
            for name, length in table.info["logs"].items():
                log = folder / name
                if log.is_file() and log.stat().st_size <= length:
                    superseded[log] = path
    return superseded


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # finished or removed since it was listed
        return float("inf")  # never old enough


def _describe(folder: Path, fingerprint: str) -> str:
    path = folder / PERCEIVERS_FOLDER / f"{fingerprint}.json"
    if not path.is_file():
        return ""
    described = json.loads(path.read_text())
    encoder = described["video_encoder"]["name"]
    segmenter = described["segmenter"]["name"] if described["use_objects"] else "no objects"
    return f"{encoder}, {segmenter}"
