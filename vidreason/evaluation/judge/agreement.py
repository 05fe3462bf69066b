"""Agreement of judges with each other, or with people.

A judge is worth little before it is compared with about a hundred human scores; a rule of thumb
asks for a weighted kappa of 0.6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[Any]
"""Scores or their ranks, shape ``(num_items,)``."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two raters' scores of the same items; NaN where a measure is not defined."""

    num_items: int
    """Items that both have scored."""
    exact: float
    """Share of equal scores."""
    kappa: float
    """Cohen's kappa: equal scores beyond chance."""
    weighted_kappa: float
    """The same with squared distances: one step apart is nearly equal."""
    alpha: float
    """Krippendorff's alpha with squared distances (interval data)."""
    spearman: float
    """Rank correlation: whether the order is the same, whatever the level."""


def agreement(first: Mapping[str, int], second: Mapping[str, int]) -> Agreement:
    """Compare two raters on the items that both have scored.

    A measure is NaN where it is not defined, such as for raters who give one score only.

    Args:
        first: Scores by item id.
        second: Scores by item id.

    Raises:
        ValueError: No item is scored by both.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("no item is scored by both judges; were they given the same predictions?")
    one, other = (np.array([scores[name] for name in shared]) for scores in (first, second))
    pooled = np.concatenate([one, other])
    observed = ((one - other) ** 2).mean()
    return Agreement(
        num_items=len(shared),
        exact=float((one == other).mean()),
        kappa=_kappa(one, other, np.not_equal),
        weighted_kappa=_kappa(one, other, lambda a, b: (a - b) ** 2),
        # Of two raters without gaps, chance is the variance of all values.
        alpha=_beyond_chance(observed, 2 * pooled.var(ddof=1)),
        spearman=_correlation(_mean_ranks(one), _mean_ranks(other)),
    )


def _kappa(one: Scores, other: Scores, distance: Callable[[Scores, Scores], Scores]) -> float:
    # There are few different scores, but the pairs of all items may not fit into memory.
    values, counts = np.unique(one, return_counts=True)
    other_values, other_counts = np.unique(other, return_counts=True)
    # (values,) @ (values, other values) @ (other values,): the distances of all pairs of items
    expected = counts @ distance(values[:, None], other_values[None, :]) @ other_counts
    return _beyond_chance(distance(one, other).mean(), float(expected) / len(one) ** 2)


def _beyond_chance(observed: float, expected: float) -> float:
    return float(1 - observed / expected) if expected else nan  # 1 agrees in all, 0 as chance does


def _mean_ranks(scores: Scores) -> Scores:
    """Rank scores; equal ones share their mean rank."""
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    # The last rank of each value, less half of its number: (values,) -> (items,)
    return (sizes.cumsum() - (sizes - 1) / 2)[inverse]


def _correlation(one: Scores, other: Scores) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) and np.ptp(other) else nan
