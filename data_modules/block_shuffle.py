"""A shuffle of any number of rows that is computed piece by piece, and reads files forward.

Rows that follow one another are in a file together: in a tar shard, in a feature store's shard, in
a page of the index. So blocks of such rows are shuffled, not single rows; some 64 blocks at a time
make a window, and the rows of a window are mixed. A window is gone through in 16 sweeps; each sweep
takes a random sixteenth of every block's rows, in the order of the file. Reading is therefore
confined to a window's blocks and goes forward within each, and yet neighbours in a file (the clips
of one film, the questions about one video) seldom come into one batch: one pair in 16 within 256
samples, where reading in order would have all and a plain shuffle of the window one in 64.

What has to be computed to begin anywhere is the order of the blocks and one window: for 110 million
rows some 215,000 and 32,768 numbers.
"""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_BLOCK_ROWS = 512
WINDOW_ROWS = 32_768
NUM_SWEEPS = 16
MIN_BLOCKS = 4096
"""Smaller blocks for smaller corpora: below this number of rows a block is a row, and the shuffle a
plain one."""

VERSION = f"blocks-{MAX_BLOCK_ROWS}-{WINDOW_ROWS}-{NUM_SWEEPS}-{MIN_BLOCKS}"
"""Change it whenever the same key gives another order: a run is not resumed in another one."""


class BlockShuffle:
    """All rows of a corpus, each once, in an order of their own for each key.

    Args:
        num_rows: At least 1.
        key: What the order is made from: a seed, and what it is for.
    """

    def __init__(self, num_rows: int, *key: int) -> None:
        self.num_rows = num_rows
        self._key = key
        self._block_rows = min(MAX_BLOCK_ROWS, max(num_rows // MIN_BLOCKS, 1))
        num_blocks = -(-num_rows // self._block_rows)
        self._blocks = shuffled(num_blocks, *key)
        self._window_blocks = WINDOW_ROWS // self._block_rows
        num_windows = -(-num_blocks // self._window_blocks)
        self._starts = np.minimum(np.arange(num_windows + 1) * self._window_blocks, num_blocks)
        self._starts *= self._block_rows
        # The last block of the file may be short, and comes anywhere.
        short = int(np.flatnonzero(self._blocks == num_blocks - 1)[0])
        self._starts[short // self._window_blocks + 1 :] -= num_blocks * self._block_rows - num_rows
        self._window_rows = lru_cache(maxsize=1)(self._mix)

    def rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at the positions ``start`` to ``stop`` of the order."""
        # Windows that the stretch lies in, and of each the rows within it.
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        parts = [
            self._window_rows(number)[max(start - int(self._starts[number]), 0) :][
                : stop - max(start, int(self._starts[number]))
            ]
            for number in range(int(first), int(last) + 1)
        ]
        return np.concatenate(parts)

    def _mix(self, number: int) -> NDArray[np.int64]:
        blocks = self._blocks[number * self._window_blocks : (number + 1) * self._window_blocks]
        # (blocks,) -> (blocks, rows of a block) -> (rows,)
        rows = (blocks[:, None] * self._block_rows + np.arange(self._block_rows)).reshape(-1)
        rows = rows[rows < self.num_rows]
        # Which rows of each block come in which sweep.
        rows = rows[shuffled(len(rows), *self._key, number)]
        if self._block_rows == 1:
            return rows
        # Each sweep's positions of a block are given to the same rows in ascending order.
        sweeps = np.arange(len(rows)) * NUM_SWEEPS // len(rows)
        mixed = np.empty_like(rows)
        positions = np.lexsort((np.arange(len(rows)), rows // self._block_rows, sweeps))
        mixed[positions] = rows[np.lexsort((rows, sweeps))]
        return mixed


def shuffled(count: int, *key: int) -> NDArray[np.int64]:
    """The numbers below ``count`` in an order that depends on the key alone.

    Not numpy's permutation, whose result may change from one version to the next (NEP 19): a run
    has to be resumed in its order under any.
    """
    text = ":".join(map(str, key)).encode()
    offset = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014), a bijection: no two are equal.
    values = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(offset)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(values ^ (values >> np.uint64(31)), kind="stable").astype(np.int64)
