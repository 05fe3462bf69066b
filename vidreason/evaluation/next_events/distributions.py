"""Probabilities of computed distributions, and their distance to the true ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.confidence.event_distributions import (
    event_probabilities,
    has_futures,
    next_event,
    top_event,
    total_variation,
    true_probabilities,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.statistics.intervals import Interval, bootstrap_interval
from vidreason.evaluation.tables import Field
from vidreason.reasoning.futures import Future, covered_mass

FIELDS = (
    Field("num_questions", "n"),
    Field("hit", "top-1 hit"),
    Field("listed", "true event listed"),
    Field("num_events", "events", factor=1.0),
    Field("covered", "covered mass"),
    Field("top", "p(top event)"),
    Field("outcome", "p(true event)"),
    Field("total_variation", "distance to truth", factor=1.0, decimals=3),
    Field("seconds_error", "error of time in s", factor=1.0, decimals=2),
)


def distribution_scores(
    predictions: Sequence[BenchmarkPrediction], fit: TemperatureFit | None
) -> dict[str, Any]:
    """Score the distributions of one run, of which there must be some; intervals are over videos.

    * ``num_questions``, with ``num_videos``: rows with a distribution; ``num_without``: rows
      without one, which no other score counts.
    * ``hit``: the most probable event came; ``listed``: an event of the distribution came.
    * ``num_events``: events a distribution, in the mean.
    * ``covered``: mean probability that the system names one of these events, by their likelihoods:
      what is missing of 1 was not found.
    * ``top``: mean probability of the most probable event; ``outcome``: of the one that came.
    * ``total_variation``: mean distance to the true distribution, from 0 to 1, of rows that have
      one; None if there are none.
    * ``seconds_error``: mean absolute error, in seconds, of the expected time of the most probable
      event, of rows where it came and both times are known; None if there are none.

    Args:
        predictions: Rows that ask for the next event.
        fit: See :func:`event_probabilities`.
    """
    rows = [row for row in predictions if has_futures(row)]
    shares = [event_probabilities(row.futures, fit) for row in rows]
    events = list(map(next_event, rows))
    # Row, its distribution, and the event that came.
    described = list(zip(rows, shares, events, strict=True))

    def mean(
        value: Callable[[BenchmarkPrediction, dict[str, float], str], float | None],
        limits: tuple[float, float] | None = (0.0, 1.0),
    ) -> Interval | None:
        # Only rows of which the value is known.
        known = [(row.video_id, value(row, of_row, event)) for row, of_row, event in described]
        values = [one for _, one in known if one is not None]
        videos = [video for video, one in known if one is not None]
        return bootstrap_interval(values, videos, limits=limits) if values else None

    return {
        "num_questions": len(rows),
        "num_without": len(predictions) - len(rows),
        "num_videos": len({row.video_id for row in rows}),
        "hit": mean(lambda row, of_row, event: float(top_event(of_row)[0] == event)),
        "listed": mean(lambda row, of_row, event: float(event in of_row)),
        "num_events": math.fsum(map(len, shares)) / len(shares),
        "covered": mean(lambda row, of_row, event: covered_mass(row.futures)),
        "top": mean(lambda row, of_row, event: top_event(of_row)[1]),
        "outcome": mean(lambda row, of_row, event: of_row.get(event, 0.0)),
        "total_variation": mean(_distance),
        "seconds_error": mean(_seconds_error, limits=None),
    }


def truth_rows(predictions: Sequence[BenchmarkPrediction]) -> list[BenchmarkPrediction]:
    """The rows that have a true distribution, answered by it: the best that there can be."""
    return [
        replace(
            row,
            error="",
            futures=tuple(
                Future(event, math.log(share), share, seconds=_true_seconds(row, event))
                for event, share in true_probabilities(row).items()
                if share > 0
            ),
        )
        for row in predictions
        if true_probabilities(row)
    ]


def _distance(row: BenchmarkPrediction, shares: dict[str, float], event: str) -> float | None:
    truth = true_probabilities(row)
    return total_variation(shares, truth) if truth else None


def _seconds_error(row: BenchmarkPrediction, shares: dict[str, float], event: str) -> float | None:
    if top_event(shares)[0] != event or row.outcome_seconds is None:
        return None
    # Several computed events may be one when they are compared.
    times = (one.seconds for one in row.futures if normalise_answer(one.event) == event)
    expected = next((time for time in times if time is not None), None)
    return None if expected is None else abs(expected - row.outcome_seconds)


def _true_seconds(row: BenchmarkPrediction, event: str) -> float | None:
    return next(
        (one.seconds for one in row.true_futures if normalise_answer(one.text) == event), None
    )
