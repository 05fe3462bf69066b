"""Sorted 64-bit hashes of ids on disk, which tell in flat memory whether any number is unique.

Two of 110 million different ids share a hash with a probability of 0.03 % (n^2 / 2^65), so equal
hashes are a reason to look at the ids themselves, and different ones a proof.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

UNIQUE_IDS = (
    "each row needs an id of its own; keep one of the rows, or, with the reader huggingface, name "
    "the column that tells rows apart by columns: {id: COLUMN}"
)
"""Remedy for an id that two rows of a corpus have."""

SPILL_HASHES = 2**18
"""Hashes held in memory before they are put into buckets on disk."""

_NUM_BUCKETS = 256  # by the first byte: buckets in order are all hashes in order
_CHUNK = 2**20  # hashes


def id_hash(text: str) -> int:
    """A hash from 0 to 2^64 - 1, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class IdHashes:
    """Writes the hashes that it is given to a file, sorted.

    Args:
        path: The file: bare ``uint64``. Buckets lie beside it until :meth:`write`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: list[int] = []
        self._spilled = False

    def add(self, hashes: Iterable[int]) -> None:
        """Take more hashes, in any order."""
        self._held.extend(hashes)
        if len(self._held) >= SPILL_HASHES:
            self._spill()

    def write(self) -> None:
        """Write the file."""
        if not self._spilled:
            np.sort(np.array(self._held, np.uint64)).tofile(self.path)
            return
        self._spill()
        with self.path.open("wb") as file:
            for number in range(_NUM_BUCKETS):
                bucket = self._bucket(number)
                if bucket.exists():
                    # One bucket at a time is in memory.
                    np.sort(np.fromfile(bucket, np.uint64)).tofile(file)
                    bucket.unlink()

    def distinct(self) -> tuple[int, int | None]:
        """Write the file, count the different hashes in it, and remove it.

        Returns:
            Their number, and one that is there more than once; None if each is there once.
        """
        self.write()
        size = self.path.stat().st_size // 8
        number, repeated = min(size, 1), None
        if size:
            ordered = np.memmap(self.path, np.uint64, "r")
            # Neighbours that differ; chunks overlap by one.
            for start in range(0, size - 1, _CHUNK):
                piece = ordered[start : start + _CHUNK + 1]
                differ = piece[1:] != piece[:-1]
                number += int(np.count_nonzero(differ))
                if repeated is None and not differ.all():
                    repeated = int(piece[int(np.argmin(differ))])
        self.path.unlink()
        return number, repeated

    def _spill(self) -> None:
        self._spilled = True
        held = np.sort(np.array(self._held, np.uint64))
        self._held = []
        # Sorted hashes split at the first bytes: one part a bucket.
        edges = np.arange(1, _NUM_BUCKETS, dtype=np.uint64) << np.uint64(56)
        for number, part in enumerate(np.split(held, np.searchsorted(held, edges))):
            if len(part):
                with self._bucket(number).open("ab") as file:
                    part.tofile(file)

    def _bucket(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number:03d}")
