"""Uncertainty: 95% intervals from a bootstrap over videos, and paired differences.

Questions about one video are not independent of each other, so whole videos are drawn with
replacement, never single questions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 5_000
_CHUNK = 200  # resamples at a time: with 10,000 videos, 16 MB a table


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are NaN with fewer than two clusters."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` with a percentile interval from a bootstrap over clusters.

    Each resample draws as many clusters as there are, with replacement, and takes the mean over all
    their values, so a video with more questions weighs more, as in the mean itself. The result is a
    function of the arguments alone.

    Args:
        values: Shape ``(n,)``, such as 1 for a right and 0 for a wrong answer.
        clusters: Length n, the video of each value.
        num_resamples: Number of resamples.
        confidence: The interval's coverage.
        seed: Seed of the resampling.

    Raises:
        ValueError: No values, or not one cluster a value.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or len(array) != len(clusters):
        raise ValueError(
            "expected at least one value and one cluster for each; found values of shape "
            f"{array.shape} and "
            f"{len(clusters)} clusters"
        )
    # In order of first appearance: sorting by name would make the interval depend on the names.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    membership = np.fromiter((numbers[name] for name in clusters), dtype=np.int64)
    sums = np.bincount(membership, weights=array).astype(np.float64)
    counts = np.bincount(membership)
    mean = float(array.mean())
    if len(sums) < 2:
        return Interval(mean, float("nan"), float("nan"))
    means = _resampled_means(sums, counts, num_resamples, np.random.default_rng(seed))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))


def paired_difference(
    values_a: Sequence[float] | NDArray[np.float64],
    values_b: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of ``values_a - values_b`` over the same items in the same order, with its interval.

    An interval that does not hold 0 shows a difference. It is narrower than the two runs' own
    intervals suggest, because what makes an item hard for both runs cancels.

    Raises:
        ValueError: The two runs have different numbers of items.
    """
    array_a = np.asarray(values_a, dtype=np.float64)
    array_b = np.asarray(values_b, dtype=np.float64)
    if array_a.shape != array_b.shape:
        raise ValueError(
            f"a paired difference needs the same items in both runs; found shapes {array_a.shape} "
            f"and {array_b.shape}"
        )
    return bootstrap_interval(
        array_a - array_b,
        clusters,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )


def _resampled_means(
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    num_resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Means of the resamples, shape ``(num_resamples,)``.

    Once it is known how often each cluster was drawn, a chunk of resamples is two matrix products.
    """
    num_clusters = len(sums)
    chunks = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        drawn = generator.integers(0, num_clusters, size=(size, num_clusters))
        drawn += np.arange(size)[:, None] * num_clusters
        times = np.bincount(drawn.ravel(), minlength=size * num_clusters)
        times = times.reshape(size, num_clusters)
        chunks.append((times @ sums) / (times @ counts))
    return np.concatenate(chunks)
