"""Words that are more frequent in one body of texts than in another (Monroe et al., 2008).

Log-odds ratios with an informative Dirichlet prior: rare words are drawn towards what both bodies
have in common, so that a word that came once does not lead the list.
"""

from collections.abc import Mapping
from math import log, sqrt
from typing import NamedTuple

PRIOR_WORDS = 500.0
"""Weight of the prior, in words: the share of each is its share in both bodies together."""
NUM_DEVIATIONS = 1.96
"""Half of a 95% interval, in standard deviations."""


class LogOdds(NamedTuple):
    """How much more frequent a word is in the first body than in the second."""

    word: str
    num_texts: int
    """Texts of the first body with it, or its count there."""
    num_others: int
    """The same of the second body."""
    mean: float
    """Natural logarithm of the ratio of the odds; above 0 where the first body has more of it."""
    low: float
    """Lower bound of its 95% interval, each word by itself."""
    high: float
    """Upper bound of its 95% interval."""


def log_odds(counts: Mapping[str, int], others: Mapping[str, int]) -> list[LogOdds]:
    """Compare two bodies of texts word by word, the highest z-score first.

    Args:
        counts: Of the words of the first body.
        others: Of those of the second.

    Returns:
        One item for each word of either; none where a body has no words.
    """
    total, other_total = sum(counts.values()), sum(others.values())
    if not total or not other_total:
        return []
    both = total + other_total
    items = []
    for word in counts.keys() | others.keys():
        count, other_count = counts.get(word, 0), others.get(word, 0)
        # The prior adds words to both bodies in the proportion that they have together; each
        # logarithm is that of the odds of the word in one body.
        prior = PRIOR_WORDS * (count + other_count) / both
        # 1e-9: where neither body has another word, there are none to divide by.
        mean = log((count + prior) / (total + PRIOR_WORDS - count - prior + 1e-9)) - log(
            (other_count + prior) / (other_total + PRIOR_WORDS - other_count - prior + 1e-9)
        )
        # The variance of the difference is about the sum of both inverse counts.
        half = NUM_DEVIATIONS * sqrt(1 / (count + prior) + 1 / (other_count + prior))
        items.append(LogOdds(word, count, other_count, mean, mean - half, mean + half))
    # By the z-score, up to a factor that is the same for all.
    return sorted(items, key=lambda item: (-item.mean / (item.high - item.low), item.word))
