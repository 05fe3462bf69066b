"""95% intervals from a bootstrap over videos, of means, of other numbers and of paired differences.

Questions about one video are not independent of each other, so whole videos are drawn with
replacement, never single questions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.statistics.clusters import cluster_sums, paired_values

NUM_RESAMPLES = 5_000
NUM_STATISTICS = 500
_CHUNK = 200  # resamples at a time: with 10,000 videos, 16 MB a table


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are NaN with fewer than two clusters."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Weighted mean of ``values`` with a percentile interval from a bootstrap over clusters.

    Each resample draws as many clusters as there are, with replacement, and takes the mean over all
    their values, so a video with more questions weighs more, as in the mean itself. The weights of
    what was drawn are made to sum to 1, so no mean lies outside of the values. The result is a
    function of the arguments alone.

    Args:
        values: Shape ``(n,)``, such as 1 for a right and 0 for a wrong answer.
        clusters: Length n, the video of each value.
        weights: Length n, above 0; None for equal ones.
        num_resamples: Number of resamples.
        confidence: The interval's coverage.
        seed: Seed of the resampling.

    Raises:
        ValueError: No values, or not one cluster a value.
    """
    array = np.asarray(values, dtype=np.float64)
    weighing = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = cluster_sums(array * weighing, clusters)
    totals = cluster_sums(weighing, clusters)
    mean = float(np.average(array, weights=weighing))
    if len(sums) < 2:
        return Interval(mean, float("nan"), float("nan"))
    means = _resampled_means(sums, totals, num_resamples, np.random.default_rng(seed))
    return _percentile_interval(mean, means, confidence)


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: Sequence[str],
    *,
    num_resamples: int = NUM_STATISTICS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Any number that is made of all items, with its interval from a bootstrap over clusters.

    For what is no mean of values, such as BLEU or a calibration error. Means are done faster by
    :func:`bootstrap_interval`. Resamples of which the number is NaN are left out.

    Args:
        statistic: Takes places of items, from 0 to n - 1, of which some may come several times.
        clusters: Length n, the video of each item.
        num_resamples: Number of resamples.
        confidence: The interval's coverage.
        seed: Seed of the resampling.

    Raises:
        ValueError: There are no items.
    """
    if not clusters:
        raise ValueError("expected at least one item, found none")
    members: dict[str, list[int]] = {}
    for place, name in enumerate(clusters):
        members.setdefault(name, []).append(place)
    own = [np.array(places, dtype=np.intp) for places in members.values()]
    value = statistic(np.arange(len(clusters)))
    if len(own) < 2:
        return Interval(value, float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(own), size=(num_resamples, len(own)))
    values = np.array([statistic(np.concatenate([own[n] for n in row])) for row in drawn])
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(value, float("nan"), float("nan"))
    return _percentile_interval(value, values, confidence)


def paired_difference(
    values_a: Sequence[float] | NDArray[np.float64],
    values_b: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Mean of ``values_a - values_b`` over the same items in the same order, with its interval.

    An interval that does not hold 0 shows a difference. It is narrower than the two runs' own
    intervals suggest, because what makes an item hard for both runs cancels.

    Raises:
        ValueError: The two runs have different numbers of items.
    """
    return bootstrap_interval(
        paired_values(values_a, values_b), clusters, weights, num_resamples=num_resamples
    )


def _percentile_interval(
    value: float, resampled: NDArray[np.float64], confidence: float
) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def _resampled_means(
    sums: NDArray[np.float64],
    totals: NDArray[np.float64],
    num_resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Means of the resamples, shape ``(num_resamples,)``, of each cluster's sums and total weight.

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
        chunks.append((times @ sums) / (times @ totals))
    return np.concatenate(chunks)
