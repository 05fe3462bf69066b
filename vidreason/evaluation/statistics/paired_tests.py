"""Permutation tests over videos of two runs on the same questions, and families of tests.

Questions about one video are not independent of each other, so whole videos change sides.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.statistics.clusters import cluster_sums, paired_values

NUM_FLIPS = 10_000  # drawn assignments of signs
_CHUNK = 200  # assignments of signs at a time
_MAX_ENUMERATED = 14  # clusters; 2 ** 14 sums
_MAX_SCALE = 12
"""Runs averaged over at most as many seeds, or a divisor of such a number, have exact tests."""
_MAX_CONVOLVED = 300_000_000  # additions, about half a second
_ROUNDING = 1e-9  # sums that differ by less are the same


class PairedTest(NamedTuple):
    """Result of :func:`paired_test`."""

    p_value: float
    """Two-sided; above 0, of however many videos."""
    num_differing: int
    """Clusters with different sums in both runs; the others say nothing."""
    exact: bool
    """True if all assignments of signs were counted, or ``num_flips`` drawn ones."""


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
    array = paired_values(values_a, values_b)
    # (n,) -> (clusters,); videos without a difference count for neither side.
    sums = cluster_sums(array, clusters)
    differing = np.abs(sums[np.abs(sums) > _ROUNDING])
    observed = float(abs(sums.sum()))  # two-sided
    p_value = _exact_p_value(differing, observed)
    exact = p_value is not None
    if p_value is None:
        p_value = _drawn_p_value(differing, observed, num_flips, np.random.default_rng(seed))
    return PairedTest(p_value, len(differing), exact)


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
    # The least p-value times the number of tests, the next times one less; never falling.
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def _exact_p_value(sums: NDArray[np.float64], observed: float) -> float | None:
    """Share of all assignments of signs to ``sums``; None if there are too many to count."""
    # Whole numbers, or whole after a small factor: the distribution of the total by convolution.
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
                # A total of k moves to k + step and to k - step, each with half of its share.
                moved = np.zeros_like(share)
                moved[step:] = share[: len(share) - step]
                moved[: len(share) - step] += share[step:]
                share = moved / 2
            far = np.abs(np.arange(-total, total + 1)) >= observed * scale - 0.5
            # With more than a thousand videos it may be less than a float can be.
            return min(1.0, max(float(share[far].sum()), sys.float_info.min))
    # Few videos: all 2^n totals.
    if len(sums) > _MAX_ENUMERATED:
        return None
    totals = np.zeros(1)
    for step in sums:
        totals = np.concatenate([totals + step, totals - step])  # (2^k,) -> (2^(k + 1),)
    return float(np.mean(np.abs(totals) >= observed - _ROUNDING))


def _drawn_p_value(
    sums: NDArray[np.float64], observed: float, num_flips: int, generator: np.random.Generator
) -> float:
    num_far = 0
    for start in range(0, num_flips, _CHUNK):
        # (chunk, clusters) of -1 and 1.
        signs = generator.integers(0, 2, size=(min(_CHUNK, num_flips - start), len(sums))) * 2 - 1
        num_far += int((np.abs(signs @ sums) >= observed - _ROUNDING).sum())
    # The observed signs are one of the assignments, so that no p-value is 0.
    return (1 + num_far) / (1 + num_flips)
