"""A file of fixed-size rows sorted by 16-byte keys, to be searched without being read.

A table with 110 million rows must cost a process neither the memory of its keys nor the time to
read them: it is mapped into memory, a search touches a few of its pages, and all processes of a
node share them. Tables are written by merging others, block by block, so that memory stays flat.

The keys are the first 16 bytes of hashes. They are kept as two columns of 64 bits, of which the
first alone nearly always decides.
"""

import json
import mmap
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.atomic_file import atomic_file

BLOCK_ROWS = 2**21
"""Rows that are merged in memory at a time, about."""

_MAGIC = b"vidreason-table1"
_ALIGNMENT = 64  # bytes: columns begin where a mapped array of numbers may
_TRAILER_BYTES = 12  # three checksums of four bytes

Rows = NDArray[np.void]
"""A structured array, one element a row."""


class DamagedTableError(ValueError):
    """The file is not a whole table."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SortedTable:
    """Rows by key; several rows may have one key."""

    high: NDArray[np.uint64]
    """``(n,)`` first half of each key, ascending."""
    low: NDArray[np.uint64]
    """``(n,)`` second half; ascending where the first is equal."""
    rows: Rows
    """``(n,)``"""
    info: dict[str, Any] = field(default_factory=dict)
    """Remarks of the writer about the table."""

    def __len__(self) -> int:
        return len(self.high)

    def find(self, key: bytes) -> Iterator[np.void]:
        """The rows under a key of 16 bytes."""
        high, low = split_key(key)
        # Keys with one first half lie together; nearly always it is a single one.
        row = int(self.high.searchsorted(high))
        while row < len(self.high) and self.high[row] == high:
            if self.low[row] == low:
                yield self.rows[row]
            row += 1


def split_key(key: bytes) -> tuple[np.uint64, np.uint64]:
    """The two halves of a key as numbers in its order."""
    return np.uint64(int.from_bytes(key[:8], "big")), np.uint64(int.from_bytes(key[8:16], "big"))


def table_of(keys: NDArray[np.uint8], rows: Rows) -> SortedTable:
    """A table in memory of ``(n, 16)`` key bytes and ``(n,)`` rows in any order."""
    # Big-endian, so that numbers are in the order of the bytes: (n, 16) uint8 -> (n, 2) uint64
    halves = np.ascontiguousarray(keys).view(">u8").astype(np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    return SortedTable(high=halves[order, 0], low=halves[order, 1], rows=rows[order])


def open_table(path: Path) -> SortedTable:
    """Map a table into memory.

    Raises:
        DamagedTableError: The file is cut off or not a table.
        FileNotFoundError: There is no such file (any more).
    """
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 8)
        length = int.from_bytes(head[len(_MAGIC) :], "little")
        if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + 8:
            raise DamagedTableError(f"{str(path)!r} is not a table of the feature store")
        try:
            header = json.loads(file.read(length))
            count, info = int(header["count"]), dict(header["info"])
            dtype = np.dtype([tuple(column) for column in header["columns"]])
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise DamagedTableError(f"{str(path)!r}: unreadable header ({error!r})") from error
        starts = _starts(len(head) + length, count, dtype)
        size = file.seek(0, 2)
        if size != starts[-1] + _TRAILER_BYTES:
            expected = starts[-1] + _TRAILER_BYTES
            raise DamagedTableError(f"{str(path)!r}: {size} bytes, expected {expected}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # A search reads single pages far apart; the pages after them are not wanted.
    mapped.madvise(mmap.MADV_RANDOM)
    return SortedTable(
        high=np.frombuffer(mapped, np.uint64, count, starts[0]),
        low=np.frombuffer(mapped, np.uint64, count, starts[1]),
        rows=np.frombuffer(mapped, dtype, count, starts[2]),
        info=info,
    )


def list_tables(folder: Path, suffix: str) -> tuple[dict[Path, SortedTable], dict[Path, Path]]:
    """Open the tables of a folder; ``info["supersedes"]`` of each names those that it takes in.

    Returns:
        The tables to search, and by which of them each of the others is superseded. A damaged table
        is in neither.
    """
    tables: dict[Path, SortedTable] = {}
    superseded: dict[Path, Path] = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        try:
            tables[path] = open_table(path)
        except (DamagedTableError, FileNotFoundError):
            continue
        superseded |= {folder / name: path for name in tables[path].info["supersedes"]}
    return {path: table for path, table in tables.items() if path not in superseded}, superseded


def check_table(path: Path) -> SortedTable:
    """Read a whole table.

    Raises:
        DamagedTableError: A checksum is wrong, the keys are not in order, or as
            :func:`open_table`.
    """
    table = open_table(path)
    with path.open("rb") as file:
        file.seek(-_TRAILER_BYTES, 2)
        expected = np.frombuffer(file.read(), "<u4").tolist()
    actual = [_crc32(column) for column in (table.high, table.low, table.rows)]
    if actual != expected:
        raise DamagedTableError(f"{str(path)!r}: a checksum is wrong")
    before, after = (slice(None, -1), slice(1, None))
    falls = table.high[after] < table.high[before]
    ties = table.high[after] == table.high[before]
    if (falls | (ties & (table.low[after] < table.low[before]))).any():
        raise DamagedTableError(f"{str(path)!r}: the keys are not in order")
    return table


Translation = Callable[[int, Rows], tuple[NDArray[np.bool_], Rows]]
"""From the number of a source and rows of it to which are kept, and what all of them become."""


def merge_tables(
    path: Path,
    sources: Sequence[SortedTable],
    translate: Translation,
    *,
    count: int,
    dtype: np.dtype[np.void],
    info: dict[str, Any],
) -> None:
    """Write the rows of ``sources`` that ``translate`` keeps as one table.

    Args:
        path: The new table's file.
        sources: Tables; equal keys keep the order of their tables.
        translate: Which rows stay, and how they read in the new table.
        count: How many rows stay, which has to be known when the first is written.
        dtype: Of the new table's rows.
        info: What is to be known about the new table.
    """
    header = json.dumps({"count": count, "columns": dtype.descr, "info": info}).encode()
    starts = _starts(len(_MAGIC) + 8 + len(header), count, dtype)
    checksums = [0, 0, 0]
    done = 0
    with atomic_file(path) as file:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for block in _merged_blocks(sources, translate):
            for number, column in enumerate(block):
                file.seek(starts[number] + done * column.dtype.itemsize)
                file.write(column.tobytes())
                checksums[number] = _crc32(column, checksums[number])
            done += len(block[0])
        assert done == count, (done, count)
        file.seek(starts[-1])
        file.write(np.array(checksums, dtype="<u4").tobytes())


def _merged_blocks(
    sources: Sequence[SortedTable], translate: Translation
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64], Rows]]:
    """Both halves of the keys and the rows, in order; hashes spread evenly over the blocks."""
    num_blocks = -(-sum(len(source) for source in sources) // BLOCK_ROWS)
    first = [0] * len(sources)
    for block in range(num_blocks):
        is_last = block + 1 == num_blocks
        # Keys are hashes: equal parts of their range hold about as many rows.
        bound = np.uint64(0 if is_last else (block + 1) * 2**64 // num_blocks)
        parts = []
        for number, source in enumerate(sources):
            end = len(source) if is_last else int(source.high.searchsorted(bound))
            piece = slice(first[number], end)
            kept, rows = translate(number, source.rows[piece])
            parts.append((source.high[piece][kept], source.low[piece][kept], rows[kept]))
            first[number] = end
        high, low, rows = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # The last key given sorts first: by the high halves, equal ones by the low.
        order = np.lexsort((low, high))
        yield high[order], low[order], rows[order]


def _crc32(column: NDArray[Any], start: int = 0) -> int:
    return zlib.crc32(np.ascontiguousarray(column).view(np.uint8).data, start)


def _starts(header_end: int, count: int, dtype: np.dtype[np.void]) -> list[int]:
    """Offsets in the file of the two halves of the keys, the rows and the trailer."""
    starts = [header_end + (-header_end) % _ALIGNMENT]
    for size in (8, 8, dtype.itemsize):
        starts.append(starts[-1] + size * count)
    return starts
