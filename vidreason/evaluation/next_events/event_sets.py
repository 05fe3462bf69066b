"""Conformal sets of events: how often they hold the one that came, and how many they hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vidreason.evaluation.confidence.conformal import (
    MIN_QUESTIONS,
    ConformalFit,
    conformal_scores,
    conformal_set,
    draw_of,
    fit_conformal,
)
from vidreason.evaluation.confidence.event_distributions import (
    event_probabilities,
    has_futures,
    next_event,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.statistics.intervals import bootstrap_interval
from vidreason.evaluation.tables import Field

DRAWN, WITH_TOP = "drawn", "with_top"
_DRAWS: dict[str, Callable[[str], float]] = {DRAWN: draw_of, WITH_TOP: lambda name: 0.0}
"""From a rule to the draw of the question of an id: at random, or so that the most probable event
is always in the set."""
FIELDS = (
    Field("num_questions", "n"),
    Field("drawn_coverage", "coverage"),
    Field("drawn_size", "events", factor=1.0, decimals=2),
    Field("drawn_empty", "empty"),
    Field("with_top_coverage", "coverage, top event always in"),
    Field("with_top_size", "events", factor=1.0, decimals=2),
)


def fit_sets(validation: Sequence[BenchmarkPrediction]) -> dict[str, ConformalFit]:
    """Fit the sets of both rules; nothing of fewer validation rows with events than it takes.

    The probabilities are those that the system gives: a temperature that was fitted on the same
    rows would count them twice.

    Args:
        validation: Rows that ask for the next event, of other questions than those of the test.
    """
    rows = [row for row in validation if has_futures(row)]
    if len(rows) < MIN_QUESTIONS:
        return {}
    return {rule: fit_conformal([_score(row, rule) for row in rows]) for rule in _DRAWS}


def set_scores(
    predictions: Sequence[BenchmarkPrediction], fits: Mapping[str, ConformalFit]
) -> dict[str, Any]:
    """Score the sets of one run, of which there must be some; intervals are over videos.

    * ``num_questions``, with ``num_videos``: rows with a set.
    * ``<rule>_coverage``: share of sets that hold the event that came; ``<rule>_size``: events a
      set, in the mean; ``<rule>_empty``: share of sets without any.

    Args:
        predictions: Rows that ask for the next event.
        fits: Of :func:`fit_sets`.
    """
    rows = [row for row in predictions if has_futures(row)]
    videos = [row.video_id for row in rows]
    scores: dict[str, Any] = {"num_questions": len(rows), "num_videos": len(set(videos))}
    for rule, fit in fits.items():
        covered = [float(_score(row, rule) <= fit.quantile) for row in rows]
        # A set without a bound holds all other events, too, which count as one.
        others = math.isinf(fit.quantile)
        sizes = [
            len(conformal_set(event_probabilities(row.futures), fit, _DRAWS[rule](row.id))) + others
            for row in rows
        ]
        scores[f"{rule}_coverage"] = bootstrap_interval(covered, videos)
        scores[f"{rule}_size"] = bootstrap_interval(sizes, videos, limits=None)
        scores[f"{rule}_empty"] = sizes.count(0) / len(sizes)
    return scores


def _score(row: BenchmarkPrediction, rule: str) -> float:
    """Score of the event that came; infinite where it is not among the events."""
    scores = conformal_scores(event_probabilities(row.futures), _DRAWS[rule](row.id))
    return scores.get(next_event(row), math.inf)
