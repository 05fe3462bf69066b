"""Uncertainty: 95% intervals from a bootstrap over videos, paired differences and their tests.

Questions about one video are not independent of each other, so whole videos are drawn with
replacement, or change sides, never single questions.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 5_000
NUM_STATISTICS = 500
NUM_FLIPS = 10_000
_CHUNK = 200  # resamples at a time: with 10,000 videos, 16 MB a table
_MAX_ENUMERATED = 14  # clusters; 2 ** 14 sums
_MAX_SCALE = 12  # runs averaged over up to so many seeds, or their divisors, have exact tests
_MAX_CONVOLVED = 300_000_000  # additions, about half a second
_ROUNDING = 1e-9


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
    sums = _cluster_sums(array * weighing, clusters)
    totals = _cluster_sums(weighing, clusters)
    mean = float(np.average(array, weights=weighing))
    if len(sums) < 2:
        return Interval(mean, float("nan"), float("nan"))
    means = _resampled_means(sums, totals, num_resamples, np.random.default_rng(seed))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))


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
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def paired_difference(
    values_a: Sequence[float] | NDArray[np.float64],
    values_b: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    weights: Sequence[float] | None = None,
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
    return bootstrap_interval(
        _paired(values_a, values_b),
        clusters,
        weights,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )


class PairedTest(NamedTuple):
    """Result of :func:`paired_test`."""

    difference: float
    """Mean of ``values_a - values_b``."""
    p_value: float
    """Two-sided; above 0, of however many videos."""
    num_clusters: int
    num_differing: int
    """Clusters with different sums in both runs; the others say nothing."""
    exact: bool
    """Whether all assignments of signs were counted, or ``num_flips`` drawn ones."""


def paired_test(
    values_a: Sequence[float] | NDArray[np.float64],
    values_b: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    *,
    num_flips: int = NUM_FLIPS,
    seed: int = 0,
) -> PairedTest:
    """Test whether two runs on the same items differ, by a permutation of runs within clusters.

    If they do not, each cluster's summed difference is as likely to have the other sign. The
    p-value is the share of all assignments of signs whose total is at least as far from 0. It is
    exact where the sums are whole numbers, such as of right answers (also averaged over a few
    seeds), or few; else it is ``(1 + k) / (1 + num_flips)`` for drawn assignments. With one
    yes-or-no item a cluster it is McNemar's exact test.

    It asks about these two runs: that a training with another seed would differ as well, it cannot
    say.

    Args:
        values_a: Shape ``(n,)``, such as 1 for a right and 0 for a wrong answer.
        values_b: Shape ``(n,)``, of the same items in the same order.
        clusters: Length n, the video of each item.
        num_flips: How many assignments are drawn, where they are not all counted.
        seed: Of the draws.

    Raises:
        ValueError: The two runs have different numbers of items, or there are none.
    """
    array = _paired(values_a, values_b)
    sums = _cluster_sums(array, clusters)
    differing = np.abs(sums[np.abs(sums) > _ROUNDING])
    observed = float(abs(sums.sum()))
    p_value = _exact_p_value(differing, observed)
    exact = p_value is not None
    if p_value is None:
        p_value = _drawn_p_value(differing, observed, num_flips, np.random.default_rng(seed))
    return PairedTest(float(array.mean()), p_value, len(sums), len(differing), exact)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction of the p-values of a family of tests (Holm 1979).

    Whoever calls significant what is adjusted below a level is wrong in one or more of the tests
    with at most that probability, whichever of them are null and however they depend on each other.

    Args:
        p_values: In any order.

    Returns:
        Adjusted p-values in that order, none below the given one.

    Raises:
        ValueError: A value is not from 0 to 1.
    """
    for value in p_values:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"a p-value must be from 0 to 1, found {value}")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def _paired(
    values_a: Sequence[float] | NDArray[np.float64], values_b: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differences item by item."""
    array_a = np.asarray(values_a, dtype=np.float64)
    array_b = np.asarray(values_b, dtype=np.float64)
    if array_a.shape != array_b.shape:
        raise ValueError(
            f"a paired difference needs the same items in both runs; found shapes {array_a.shape} "
            f"and {array_b.shape}"
        )
    return array_a - array_b


def _cluster_sums(array: NDArray[np.float64], clusters: Sequence[str]) -> NDArray[np.float64]:
    """Sum of the values of each cluster."""
    if array.ndim != 1 or not len(array) or len(array) != len(clusters):
        raise ValueError(
            "expected at least one value and one cluster for each; found values of shape "
            f"{array.shape} and {len(clusters)} clusters"
        )
    # In order of first appearance: sorting by name would make results depend on the names.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    membership = np.fromiter((numbers[name] for name in clusters), dtype=np.int64)
    return np.bincount(membership, weights=array).astype(np.float64)


def _exact_p_value(sums: NDArray[np.float64], observed: float) -> float | None:
    """Share of all assignments of signs to ``sums``; None if there are too many to count."""
    for scale in range(1, _MAX_SCALE + 1):
        scaled = sums * scale
        steps = np.rint(scaled).astype(np.int64)
        if np.abs(scaled - steps).max(initial=0.0) < _ROUNDING * scale:
            total = int(steps.sum())
            if total * len(steps) > _MAX_CONVOLVED:
                return None
            # share[k]: how probably the total is k - total; each cluster moves it up or down.
            share = np.zeros(2 * total + 1)
            share[total] = 1.0
            for step in steps:
                moved = np.zeros_like(share)
                moved[step:] = share[: len(share) - step]
                moved[: len(share) - step] += share[step:]
                share = moved / 2
            far = np.abs(np.arange(-total, total + 1)) >= observed * scale - 0.5
            # With more than a thousand videos it may be less than a float can be.
            return min(1.0, max(float(share[far].sum()), sys.float_info.min))
    if len(sums) > _MAX_ENUMERATED:
        return None
    totals = np.zeros(1)
    for step in sums:
        totals = np.concatenate([totals + step, totals - step])
    return float(np.mean(np.abs(totals) >= observed - _ROUNDING))


def _drawn_p_value(
    sums: NDArray[np.float64], observed: float, num_flips: int, generator: np.random.Generator
) -> float:
    num_far = 0
    for start in range(0, num_flips, _CHUNK):
        signs = generator.integers(0, 2, size=(min(_CHUNK, num_flips - start), len(sums))) * 2 - 1
        num_far += int((np.abs(signs @ sums) >= observed - _ROUNDING).sum())
    return (1 + num_far) / (1 + num_flips)


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
