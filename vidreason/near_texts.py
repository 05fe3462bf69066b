"""Texts that are the same or nearly so, found among many: normalised text, then MinHash."""

import hashlib
import re
import zlib
from collections import defaultdict
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_WORDS = 8
"""Shorter texts are said of many videos and tell nothing."""

_SHINGLE_WORDS = 3  # words in a row that are compared
# Two texts of similarity s become candidates with 1 - (1 - s^4)^16: 99.98 % at 0.8, 64 % at 0.5.
# Candidates are compared in full, so the draw decides only what is missed.
NUM_BANDS, BAND_ROWS = 16, 4
"""Groups of hashes of a signature, and hashes of a group: texts that agree in all hashes of one
group are compared."""
NUM_HASHES = 128
"""Hashes of a full signature; the first 64 are those of the groups."""

_PRIME = np.uint64(2**31 - 1)
_GENERATOR = np.random.default_rng(0)
_FACTORS = _GENERATOR.integers(1, 2**31 - 1, (NUM_HASHES, 1), dtype=np.uint64)
_SUMMANDS = _GENERATOR.integers(0, 2**31 - 1, (NUM_HASHES, 1), dtype=np.uint64)


class TextMatch(NamedTuple):
    """A text of the set that says what another one says."""

    name: str
    similarity: float
    """Jaccard's: of their three-word sequences, the share that is in both; 1.0 for equal texts."""


class TextIndex:
    """Finds the text of a set that is most similar to a given one; the set is held in memory.

    Letter case, punctuation and spaces make no difference.

    Args:
        min_similarity: Where "nearly the same" begins, in (0, 1].
    """

    def __init__(self, min_similarity: float) -> None:
        self.min_similarity = min_similarity
        self._equal: dict[bytes, str] = {}
        self._texts: list[tuple[str, frozenset[int]]] = []  # name and shingles
        self._bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._equal)

    def add(self, name: str, text: str) -> None:
        """Put a text into the set, unless it is too short or equal to one that is there."""
        words = normalised_words(text)
        key = _digest(words)
        if len(words) < MIN_WORDS or key in self._equal:
            return
        self._equal[key] = name
        shingles = text_shingles(words)
        for band in _bands(shingles):
            self._bands[band].append(len(self._texts))
        self._texts.append((name, shingles))

    def find(self, text: str) -> TextMatch | None:
        """The most similar text of the set, or None if there is none within ``min_similarity``."""
        words = normalised_words(text)
        equal = self._equal.get(_digest(words))
        if equal is not None:
            return TextMatch(equal, 1.0)
        return max(self._near(words), key=lambda match: match.similarity, default=None)

    def find_all(self, text: str) -> list[TextMatch]:
        """All texts of the set within ``min_similarity``."""
        return self._near(normalised_words(text))

    def _near(self, words: list[str]) -> list[TextMatch]:
        if len(words) < MIN_WORDS or not self._equal:
            return []
        shingles = text_shingles(words)
        # Texts that share a band; compared in full below.
        candidates = {number for band in _bands(shingles) for number in self._bands.get(band, ())}
        near = (self._texts[number] for number in candidates)
        matches = (TextMatch(name, jaccard(shingles, others)) for name, others in near)
        return [match for match in matches if match.similarity >= self.min_similarity]


def normalised_words(text: str) -> list[str]:
    """The words of ``text`` in lower case, without punctuation."""
    return re.findall(r"\w+", text.casefold())


def text_shingles(words: list[str]) -> frozenset[int]:
    """Hashes, below 2**31, of all sequences of three words."""
    encoded = " ".join(words).encode()
    # Offsets of the words, each with the blank after it; the last one has none.
    starts = list(accumulate((len(word.encode()) + 1 for word in words), initial=0))
    spans = zip(starts, starts[_SHINGLE_WORDS:], strict=False)
    return frozenset(zlib.crc32(encoded[start : end - 1]) & 0x7FFFFFFF for start, end in spans)


def minhash(shingles: frozenset[int], num_hashes: int = NUM_HASHES) -> NDArray[np.uint64]:
    """Return a set's signature: of each hash function, the smallest value over the set.

    Two sets agree in about as large a share of it as they have in common (Jaccard's similarity).

    Args:
        shingles: At least one.
        num_hashes: The first of the ``NUM_HASHES`` functions.

    Returns:
        Values below 2**31, (num_hashes,).
    """
    values: NDArray[np.uint64] = np.fromiter(shingles, dtype=np.uint64)[None, :]
    factors, summands = _FACTORS[:num_hashes], _SUMMANDS[:num_hashes]
    # (hashes, 1) functions of (1, shingles) -> smallest of each, (hashes,)
    smallest: NDArray[np.uint64] = ((values * factors + summands) % _PRIME).min(axis=1)
    return smallest


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """The share that is in both sets, of all that is in either; at least one is not empty."""
    return len(one & other) / len(one | other)


def _digest(words: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()


def _bands(shingles: frozenset[int]) -> list[tuple[int, bytes]]:
    # Texts that agree in all hashes of one band are compared: (hashes,) -> (bands, rows)
    rows = minhash(shingles, NUM_BANDS * BAND_ROWS).reshape(NUM_BANDS, BAND_ROWS)
    return [(band, row.tobytes()) for band, row in enumerate(rows)]
