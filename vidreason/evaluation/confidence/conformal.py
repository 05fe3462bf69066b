"""Split conformal prediction: sets of events of which one comes, in at least 90 of 100 videos.

The score of an event is the probability of all events above it, and a drawn share of its own (APS,
Romano et al. 2020): low for what a distribution holds for likely. A set holds the events whose
score is not above a quantile of the scores that the true events of validation videos have. However
wrong the probabilities are, such sets cover as often as promised where test videos are like the
validation videos; better probabilities make them smaller.

Without a draw, a set always holds the most probable event and covers more often than promised where
that event alone already does; with it, the promise is met exactly, and a set may be empty.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.9
"""Share of the videos whose event a set is to hold."""
MIN_QUESTIONS = 9
"""Validation questions without which the quantile for ``LEVEL`` is infinite: each set would hold
all events, whatever the system says."""


@dataclass(frozen=True, kw_only=True)
class ConformalFit:
    """Quantile of the scores of true events."""

    quantile: float
    """Infinite where too many true events were not among the events, or there are too few: then a
    set holds all events, also those that are not named."""
    num_questions: int
    level: float = LEVEL


def conformal_scores(distribution: Mapping[str, float], draw: float = 0.0) -> dict[str, float]:
    """Score of each event: the probability of those above it, and ``draw`` times its own.

    Args:
        distribution: Events and probabilities, the most probable first.
        draw: A number from 0 to 1, drawn evenly for each question; 0 for sets that always hold the
            most probable event.
    """
    scores, above = {}, 0.0
    for event, share in distribution.items():
        scores[event] = above + draw * share
        above += share
    return scores


def fit_conformal(scores: Sequence[float], level: float = LEVEL) -> ConformalFit:
    """Fit the quantile by which sets hold the true event with probability ``level`` or more.

    Args:
        scores: Of the true events of validation questions; infinite for one that is not among its
            question's events.
        level: The promise.

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("expected the score of at least one validation question, found none")
    # One more than there are: the question that is asked counts, too.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    quantile = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    return ConformalFit(quantile=quantile, num_questions=len(scores), level=level)


def conformal_set(
    distribution: Mapping[str, float], fit: ConformalFit, draw: float = 0.0
) -> tuple[str, ...]:
    """The events of a set, the most probable first; see :func:`conformal_scores`."""
    scores = conformal_scores(distribution, draw)
    return tuple(event for event, score in scores.items() if score <= fit.quantile)


def draw_of(name: str) -> float:
    """A number from 0 to 1, as if drawn evenly, that belongs to a question's id."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56  # 56 bits: exact as a float
