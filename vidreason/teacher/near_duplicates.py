"""Near-duplicates among many texts in little memory: some 400 bytes a text, whatever its length.

A text is held as its MinHash signature alone. Texts that agree in one of 16 groups of hashes are
compared by their whole signatures, whose 128 hashes tell the similarity (Jaccard's, of three-word
sequences) with a standard error of at most 0.045.
"""

from array import array
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidreason.near_texts import (
    BAND_ROWS,
    MIN_WORDS,
    NUM_BANDS,
    NUM_HASHES,
    TextMatch,
    minhash,
    normalised_words,
    text_shingles,
)

_BLOCK = 4096
"""Texts by which the signatures grow, so that nothing is copied."""
_NUM_BUCKETS = 2**17
_NOBODY = 2**32 - 1
_MAX_CHAIN = 256
"""Texts of one group, the latest first, that are compared: where more agree they are of one
template, and what is nearly the same agrees in other groups too."""
_FACTORS = np.random.default_rng(1).integers(1, 2**63, BAND_ROWS, dtype=np.uint64)

_Signature = NDArray[np.uint16]


class NearDuplicates:
    """Finds the text of a growing set that is most similar to a given one.

    Letter case, punctuation and spaces make no difference. Texts of fewer than eight words are
    said of many videos: they are not held, and near to nothing.

    Args:
        min_similarity: Where "nearly the same" begins, in (0, 1].
    """

    def __init__(self, min_similarity: float) -> None:
        self.min_similarity = min_similarity
        self._names: list[str] = []
        self._signatures: list[_Signature] = []  # (_BLOCK, NUM_HASHES) each
        # Chains: the latest text of each group's bucket, and before each text the one before it.
        self._latest = array("I", [_NOBODY]) * (NUM_BANDS * _NUM_BUCKETS)
        self._earlier = array("I")

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str) -> None:
        """Put a text into the set, unless it is too short."""
        signature = _signature(text)
        if signature is None:
            return
        index = len(self._names)
        if index % _BLOCK == 0:
            self._signatures.append(np.zeros((_BLOCK, NUM_HASHES), np.uint16))
        self._signatures[-1][index % _BLOCK] = signature
        self._names.append(name)
        # An entry for each group, in order: _candidates() finds it at index * NUM_BANDS + group.
        for bucket in _buckets(signature):
            self._earlier.append(self._latest[bucket])
            self._latest[bucket] = index

    def find(self, text: str) -> TextMatch | None:
        """Return the most similar text, of several the first; None if none is near enough."""
        signature = _signature(text)
        candidates = [] if signature is None else sorted(self._candidates(signature))
        best: TextMatch | None = None
        blocks = np.array(candidates, dtype=np.int64) // _BLOCK
        for block in np.unique(blocks):
            rows = np.array(candidates, dtype=np.int64)[blocks == block] % _BLOCK
            # (rows, NUM_HASHES) == (NUM_HASHES,) -> (rows,)
            shares = (self._signatures[block][rows] == signature).mean(axis=1)
            nearest = int(shares.argmax())
            share = float(shares[nearest])
            if share >= self.min_similarity and (best is None or share > best.similarity):
                best = TextMatch(self._names[int(block) * _BLOCK + int(rows[nearest])], share)
        return best

    def _candidates(self, signature: _Signature) -> set[int]:
        """Texts that share a bucket."""
        candidates: set[int] = set()
        for group, bucket in enumerate(_buckets(signature)):
            index = self._latest[bucket]
            for _ in range(_MAX_CHAIN):
                if index == _NOBODY:
                    break
                candidates.add(index)
                index = self._earlier[index * NUM_BANDS + group]
        return candidates


@lru_cache(maxsize=2)  # a text is looked for, then put in
def _signature(text: str) -> _Signature | None:
    """The lower half of each hash: 65,536 values are enough to tell texts apart by 128 of them."""
    words = normalised_words(text)
    if len(words) < MIN_WORDS:
        return None
    return minhash(text_shingles(words)).astype(np.uint16)


def _buckets(signature: _Signature) -> list[int]:
    """One bucket a group of hashes, each in a range of its own."""
    # (hashes,) -> (bands, rows): two texts share a bucket if all rows of one band agree
    groups = signature[: NUM_BANDS * BAND_ROWS].reshape(NUM_BANDS, BAND_ROWS).astype(np.uint64)
    # Modulo 2**64, of which the upper bits are the best mixed: 17 of them number a bucket.
    mixed = (groups * _FACTORS).sum(axis=1, dtype=np.uint64) >> np.uint64(64 - 17)
    buckets: list[int] = (mixed + np.arange(NUM_BANDS, dtype=np.uint64) * _NUM_BUCKETS).tolist()
    return buckets
