"""Agreement of judges with each other, or with people.

A judge is worth little before it is compared with about a hundred human scores; a rule of thumb
asks for a weighted kappa of 0.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np


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
        ValueError: No item is scored by both, or the packages of the extra ``eval`` are missing.
    """
    try:
        from scipy.stats import spearmanr  # type: ignore[import-untyped]
        from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError(
            "agreement_with needs the packages scipy and scikit-learn: pip install "
            "'vidreason[eval]'"
        ) from error
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("no item is scored by both judges; were they given the same predictions?")
    pairs = np.array([(first[name], second[name]) for name in shared], dtype=np.int64)
    one, other = pairs.T
    # All scores in between, too: the distance of two labels is that of their positions.
    labels = np.arange(pairs.min(), pairs.max() + 1)
    varies = len(labels) > 1
    both_vary = bool(np.ptp(one) and np.ptp(other))
    kappa = partial(cohen_kappa_score, one, other, labels=labels)
    return Agreement(
        num_items=len(shared),
        exact=float((one == other).mean()),
        kappa=float(kappa()) if varies else nan,
        weighted_kappa=float(kappa(weights="quadratic")) if varies else nan,
        # Of two raters without gaps, chance is the variance of all values.
        alpha=float(1 - ((one - other) ** 2).mean() / (2 * pairs.var(ddof=1))) if varies else nan,
        spearman=float(spearmanr(one, other).statistic) if both_vary else nan,
    )
