"""Comparison of two ways of training, and not only of these runs, by several seeds of each.

A test between two runs on the same questions (``statistics/paired_tests.py``) says whether *these*
models differ. Models of two seeds do: one is better by chance, on all videos, and the mean over
three seeds still has much of that chance. In a simulation of ways that do not differ, three seeds
each that move accuracy by 2.5 points (one standard deviation), that test finds a difference at 5%
in 48 of 300 pairs, and the one here in 9 (``tests/evaluation/test_seeds.py``).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.statistics.clusters import cluster_numbers
from vidreason.evaluation.statistics.few_clusters import mean_variance
from vidreason.evaluation.statistics.student import student_p_value

Floats = NDArray[np.float64]


def seeds_p_value(
    runs_a: Sequence[Sequence[float]] | Floats,
    runs_b: Sequence[Sequence[float]] | Floats,
    clusters: Sequence[str],
) -> float:
    """Test whether two ways of training differ, by several runs of each on the same items.

    Seeds and videos are both drawn at random: the variance is that between videos plus that between
    seeds less what both contain (Cameron, Gelbach and Miller 2011), at least the larger of the two,
    and the mean divided by its root is compared with Student's t, with degrees of freedom by
    Satterthwaite. With three seeds it is careful: it finds less than tests of single runs, and says
    a null is a finding more rarely than the level.

    Args:
        runs_a: Shape ``(seeds, n)``, such as 1 for a right and 0 for a wrong answer.
        runs_b: Of the other way, of the same items; it may have another number of seeds.
        clusters: Length n, the video of each item.

    Returns:
        The two-sided p-value.

    Raises:
        ValueError: Fewer than two seeds of a way, fewer than two videos, or different items.
    """
    first, second = (np.asarray(runs, dtype=np.float64) for runs in (runs_a, runs_b))
    num_videos = len(set(clusters))
    for runs in (first, second):
        if runs.ndim != 2 or len(runs) < 2 or runs.shape[1] != len(clusters) or num_videos < 2:
            raise ValueError(
                "expected values of at least two seeds on the same items of at least two videos; "
                f"found shapes {first.shape} and {second.shape} and {len(clusters)} items of "
                f"{num_videos} videos"
            )
    # (seeds, n) -> (n,): differences of the means over seeds, item by item.
    videos, ones = cluster_numbers(clusters), np.ones(len(clusters))
    differences = first.mean(axis=0) - second.mean(axis=0)
    mean = float(differences.mean())
    # Variance between videos, between seeds, and what both contain.
    of_videos = mean_variance(differences - mean, ones, videos)
    of_seeds = [float(runs.mean(axis=1).var(ddof=1)) / len(runs) for runs in (first, second)]
    of_both = sum(_shared_variance(runs, videos) for runs in (first, second))
    variance = max(of_videos, sum(of_seeds), of_videos + sum(of_seeds) - of_both)
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    # Satterthwaite's degrees of freedom.
    spread = of_videos**2 / (num_videos - 1) + sum(
        part**2 / (len(runs) - 1) for part, runs in zip(of_seeds, (first, second), strict=True)
    )
    return student_p_value(mean / math.sqrt(variance), variance**2 / spread)


def _shared_variance(runs: Floats, videos: NDArray[np.int64]) -> float:
    """Part of the mean's variance that comes from seeds being better on some videos."""
    # (seeds, n), less the means of seeds and of items: what a seed does on one video only.
    residuals = runs - runs.mean(axis=1, keepdims=True) - runs.mean(axis=0) + runs.mean()
    of_seeds = (mean_variance(of_seed, np.ones(len(of_seed)), videos) for of_seed in residuals)
    return sum(of_seeds) / (len(runs) * (len(runs) - 1))
