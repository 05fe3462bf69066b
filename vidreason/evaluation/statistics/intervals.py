"""95% intervals over videos, of means, of other numbers and of paired differences.

Questions about one video are not independent of each other, so whole videos are drawn with
replacement, never single questions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.statistics.clusters import (
    cluster_numbers,
    cluster_sums,
    paired_values,
)
from vidreason.evaluation.statistics.few_clusters import (
    MIN_CLUSTERS,
    difference_bounds,
    jackknife_bounds,
    share_bounds,
    unlimited_bounds,
)
from vidreason.evaluation.statistics.student import CONFIDENCE

NUM_RESAMPLES = 5_000  # of means, which are quick
NUM_STATISTICS = 500  # of other numbers, computed anew for each resample
_ROUNDING = 1e-12  # a width below it is no width
_CHUNK = 200  # resamples at a time: with 10,000 videos, 16 MB a table


class Interval(NamedTuple):
    """A number and its confidence interval; the bounds are NaN where there is none."""

    mean: float
    low: float
    high: float


Limits = tuple[float, float]


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    *,
    limits: Limits | None = (0.0, 1.0),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Weighted mean of ``values`` with its interval over clusters.

    The bounds are percentiles of a bootstrap: each resample draws as many clusters as there are,
    with replacement, and takes the mean over all their values, so a video with more questions
    weighs more, as in the mean itself. The weights of what was drawn are made to sum to 1, so no
    mean lies outside of the values. Of fewer than 40 clusters, and where all clusters agree, they
    are those of :mod:`~vidreason.evaluation.statistics.few_clusters`; of one, there are none. The
    result is a function of the arguments alone.

    Args:
        values: Shape ``(n,)``, such as 1 for a right and 0 for a wrong answer.
        clusters: Length n, the video of each value.
        weights: Length n, above 0; None for equal ones.
        limits: The least and largest value that there can be; None for values without limits.
        num_resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: No values, not one cluster a value, or a value beyond the limits.
    """
    array = np.asarray(values, dtype=np.float64)
    within = (
        limits is None or not array.size or limits[0] <= array.min() <= array.max() <= limits[1]
    )
    if not within:
        raise ValueError(
            f"values are from {array.min()} to {array.max()}, beyond their limits {limits}"
        )
    # (n,) -> (clusters,): what a resample needs to know of each video.
    weights = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums, totals = cluster_sums(array * weights, clusters), cluster_sums(weights, clusters)
    mean = float(np.average(array, weights=weights))
    if len(sums) < 2:  # one video says nothing of others
        return Interval(mean, float("nan"), float("nan"))
    if len(sums) >= MIN_CLUSTERS:
        means = _resampled_means(sums, totals, num_resamples, np.random.default_rng(seed))
        interval = _percentile_interval(mean, means)
        if interval.high - interval.low > _ROUNDING:
            return interval
    # Few clusters, or clusters that all agree.
    members = cluster_numbers(clusters)
    if limits is None:
        low, high = unlimited_bounds(array, weights, members)
    # Differences of two runs, from -1 to 1 by their largest size.
    elif limits[0] == -limits[1]:
        bounds = difference_bounds(array / limits[1], weights, members)
        low, high = (bound * limits[1] for bound in bounds)
    else:
        # Moved to 0 to 1 and back.
        width = limits[1] - limits[0]
        bounds = share_bounds((array - limits[0]) / width, weights, members)
        low, high = (limits[0] + bound * width for bound in bounds)
    # Rounding must not part a mean from its interval.
    return Interval(mean, min(low, mean), max(high, mean))


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: Sequence[str],
    *,
    limits: Limits = (0.0, 1.0),
    chance: float | None = None,
    num_resamples: int = NUM_STATISTICS,
    seed: int = 0,
) -> Interval:
    """Any number that is made of all items, with its interval over clusters.

    For what is no mean of values, such as BLEU or a calibration error. Means are done faster by
    :func:`bootstrap_interval`. The bounds are percentiles of a bootstrap, where resamples of which
    the number is NaN are left out; of fewer than 40 clusters those of the jackknife with Student's
    t. There are none of one cluster, and where no cluster changes the number.

    Noise raises a distance from 0, such as a calibration error, and a resample has it twice:
    percentiles of 300 answers hold a true error of 0.03 in none of 100 cases. With ``chance`` they
    are reflected at the number (the basic bootstrap), and the lower bound is 0 where chance alone
    gives as much. Measured, 300 draws each, true errors of 0 to 0.2: 60 / 300 answers hold them in
    at least 87 / 84 of 100 cases (percentiles 0 / 0).

    Args:
        statistic: Takes indices of items, from 0 to n - 1, of which some may come several times.
        clusters: Length n, the video of each item.
        limits: The least and largest number that there can be.
        chance: The most that the number is by chance where it is truly 0; None for a number that
            noise does not raise.
        num_resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: There are no items.
    """
    if not clusters:
        raise ValueError("expected at least one item, found none")
    # Indices of each video's items.
    numbers = cluster_numbers(clusters)
    members = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    everything = np.arange(len(clusters))
    value = statistic(everything)
    none = Interval(value, float("nan"), float("nan"))
    if len(members) < 2:
        return none
    if len(members) < MIN_CLUSTERS:
        # (clusters,): the number without each video in turn.
        left_out = np.array(  # (clusters,)
            [statistic(np.setdiff1d(everything, members_of_one)) for members_of_one in members]
        )
        low, high = jackknife_bounds(value, left_out)
        return Interval(value, *(float(bound) for bound in np.clip((low, high), *limits)))
    generator = np.random.default_rng(seed)
    # (resamples, clusters): the videos of each resample.
    drawn = generator.integers(0, len(members), size=(num_resamples, len(members)))
    in_order = np.concatenate(members)
    sizes = np.array(list(map(len, members)))
    starts = sizes.cumsum() - sizes
    values = np.array([statistic(in_order[_ranges(starts[row], sizes[row])]) for row in drawn])
    # Some resamples may have no such number, such as a correlation of equal values.
    values = values[~np.isnan(values)]
    if not len(values) or np.ptp(values) <= _ROUNDING:
        return none
    interval = _percentile_interval(value, values)
    return interval if chance is None else _reflected(interval, limits, chance)


def paired_difference(
    values_a: Sequence[float] | NDArray[np.float64],
    values_b: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    limits: Limits = (0.0, 1.0),
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Mean of ``values_a - values_b`` over the same items in the same order, with its interval.

    An interval that does not hold 0 shows a difference. It is narrower than the two runs' own
    intervals suggest, because what makes an item hard for both runs cancels.

    Args:
        values_a: Shape ``(n,)``.
        values_b: Shape ``(n,)``.
        clusters: Length n, the video of each value.
        weights: Length n, above 0; None for equal ones.
        limits: The least and largest of the values.
        num_resamples: Number of resamples.

    Raises:
        ValueError: The two runs have different numbers of items.
    """
    width = limits[1] - limits[0]
    return bootstrap_interval(
        paired_values(values_a, values_b),
        clusters,
        weights,
        limits=(-width, width),
        num_resamples=num_resamples,
    )


def _ranges(starts: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """The whole numbers from each start on, as many as its size, one range after the other."""
    ends = sizes.cumsum()
    # Counted through, and each range moved to where it starts: (sum of sizes,)
    numbers: NDArray[np.intp] = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    return numbers


def _percentile_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])  # of the two tails
    return Interval(value, float(low), float(high))


def _reflected(interval: Interval, limits: Limits, chance: float) -> Interval:
    mean, low, high = interval
    # What resampling adds to the number, noise has added to it before.
    lower = 0.0 if mean <= chance else 2 * mean - high
    return Interval(
        mean, min(max(lower, limits[0]), mean), max(min(2 * mean - low, limits[1]), mean)
    )


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
        # (size, clusters), each row in a range of its own so that one bincount counts all rows.
        drawn = generator.integers(0, num_clusters, size=(size, num_clusters))
        drawn += np.arange(size)[:, None] * num_clusters
        times = np.bincount(drawn.ravel(), minlength=size * num_clusters)
        # (size * clusters,) -> (size, clusters): how often each was drawn.
        times = times.reshape(size, num_clusters)
        # Sum over drawn clusters by total weight of drawn clusters: (size,)
        chunks.append((times @ sums) / (times @ totals))
    return np.concatenate(chunks)
