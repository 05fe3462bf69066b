"""Whether judges agree: with each other, or with people.

A judge is worth little before it is compared with about a hundred human scores; a rule of thumb
asks for a weighted kappa of 0.6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two raters' scores of the same items go together."""

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
    one = np.array([first[name] for name in shared], dtype=np.float64)
    other = np.array([second[name] for name in shared], dtype=np.float64)
    return Agreement(
        num_items=len(shared),
        exact=float((one == other).mean()),
        kappa=cohen_kappa(one, other, weights="none"),
        weighted_kappa=cohen_kappa(one, other, weights="quadratic"),
        alpha=krippendorff_alpha([one, other]),
        spearman=spearman_correlation(one, other),
    )


def cohen_kappa(
    first: Sequence[float] | Floats,
    second: Sequence[float] | Floats,
    *,
    weights: Literal["none", "quadratic"] = "none",
) -> float:
    """Cohen's kappa of two raters: 1 for equal scores, 0 for chance; NaN where chance is sure.

    Args:
        first: Shape ``(n,)``.
        second: Shape ``(n,)``, of the same items.
        weights: ``quadratic`` counts a disagreement by its squared distance.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    distance = _distance(weights)
    observed = distance(one, other).mean()
    expected = _sum_over_pairs(one, other, distance) / len(one) ** 2
    return float(1 - observed / expected) if expected else float("nan")


def krippendorff_alpha(
    ratings: Sequence[Sequence[float] | Floats],
    *,
    level: Literal["nominal", "interval"] = "interval",
) -> float:
    """Krippendorff's alpha of any number of raters, of whom some may not have rated all items.

    Args:
        ratings: For each rater, a value an item; NaN where there is none.
        level: ``interval`` counts a disagreement by its squared distance.

    Returns:
        1 for equal values, 0 for chance; NaN where no item has two values, or all are the same.
    """
    table = np.asarray(ratings, dtype=np.float64)
    distance = _distance("none" if level == "nominal" else "quadratic")
    units = [unit[~np.isnan(unit)] for unit in table.T]
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        return float("nan")
    values = np.concatenate(units)
    observed = sum(_sum_over_pairs(unit, unit, distance) / (len(unit) - 1) for unit in units)
    expected = _sum_over_pairs(values, values, distance) / (len(values) - 1)
    return float(1 - observed / expected) if expected else float("nan")


def spearman_correlation(
    first: Sequence[float] | Floats, second: Sequence[float] | Floats
) -> float:
    """Correlation of ranks, equal values sharing their mean rank; NaN where a rater is constant."""
    ranks = [_mean_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    centred = [own - own.mean() for own in ranks]
    norm = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / norm if norm else float("nan")


def _distance(weights: Literal["none", "quadratic"]) -> Callable[[Floats, Floats], Floats]:
    if weights == "none":
        return lambda one, other: (one != other).astype(np.float64)
    return lambda one, other: (one - other) ** 2


def _sum_over_pairs(
    first: Floats, second: Floats, distance: Callable[[Floats, Floats], Floats]
) -> float:
    """Sum of the distances of every value of one to every value of the other."""
    # There are few different scores, but the pairs of all items may not fit into memory.
    one, num_one = np.unique(first, return_counts=True)
    other, num_other = np.unique(second, return_counts=True)
    return float(num_one @ distance(one[:, None], other[None, :]) @ num_other)


def _mean_ranks(values: Floats) -> Floats:
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = sizes.cumsum()
    return (last - (sizes - 1) / 2)[place]
