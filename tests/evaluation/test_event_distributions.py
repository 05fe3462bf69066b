"""Computed distributions over next events: probabilities, proper scores, distances."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vidreason.evaluation.confidence.confidences import next_event_confidences
from vidreason.evaluation.confidence.event_distributions import (
    asks_for_next_event,
    event_brier_score,
    event_probabilities,
    event_scores,
    total_variation,
    true_probabilities,
)
from vidreason.evaluation.confidence.run_calibration import fitted_temperature
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.futures import Future, merge_candidates, with_temperature
from vidreason.reasoning.outcomes import TrueFuture
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

# Likelihoods 0.5, 0.2 and 0.1, of which the first two say one event; the system's shares are 7 : 1.
FUTURES = (
    Future("It stops.", math.log(0.5), 0.625),
    Future("it leaves", math.log(0.1), 0.125),
    Future("it  stops", math.log(0.2), 0.25),
)
ROW = BenchmarkPrediction(
    id="a", corpus="c", video_id="v", prompt=FUTURE_PREDICTION_PROMPT, futures=FUTURES,
    reference=("it stops",),
)  # fmt: skip


def at(temperature: float, listed: float = 1.0) -> TemperatureFit:
    return TemperatureFit(
        temperature=temperature, nll_before=0.0, nll_after=0.0, num_questions=1, listed=listed
    )


def test_one_event_said_in_two_ways_is_one() -> None:
    assert event_probabilities(FUTURES) == pytest.approx({"it stops": 0.875, "it leaves": 0.125})
    events, scores = event_scores(FUTURES)
    assert events == ["it stops", "it leaves"]
    assert np.exp(scores) == pytest.approx([0.7, 0.1])


def test_a_temperature_is_that_of_the_decoding() -> None:
    merged = merge_candidates({"it stops": math.log(0.7), "it leaves": math.log(0.1)})
    for temperature in (0.3, 1.0, 2.0):
        expected = {
            future.event: future.probability for future in with_temperature(merged, temperature)
        }
        assert event_probabilities(FUTURES, at(temperature)) == pytest.approx(expected)
    # The most probable event comes first, the first of equals too.
    unordered = (FUTURES[1], FUTURES[0], FUTURES[1]._replace(event="it turns"))
    assert list(event_probabilities(unordered)) == ["it stops", "it leaves", "it turns"]


def test_brier_score_is_summed_over_events_and_all_others() -> None:
    shares = {"stops": 0.5, "leaves": 0.3}  # all others: 0.2
    assert event_brier_score(shares, "stops") == pytest.approx(0.25 + 0.09 + 0.04)
    assert event_brier_score(shares, "leaves") == pytest.approx(0.25 + 0.49 + 0.04)
    # An event that is not named was given nothing, however much was left for others.
    assert event_brier_score(shares, "turns") == pytest.approx(0.25 + 0.09 + 0.04 + 1)
    assert event_brier_score({"stops": 1.0}, "stops") == 0
    assert event_brier_score({"stops": 1.0}, "turns") == 2
    assert event_brier_score({}, "turns") == 2


def test_total_variation() -> None:
    first, second = {"a": 0.5, "b": 0.5}, {"b": 0.25, "c": 0.75}
    assert total_variation(first, second) == pytest.approx(0.75)
    assert total_variation(first, {"a": 0.5, "b": 0.25}) == pytest.approx(0.25)
    assert total_variation(first, {}) == 1
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, other = (
            dict(zip(generator.permutation(list("abcdef"))[:4], shares, strict=True))
            for shares in generator.dirichlet(np.ones(5), size=2)[:, :4]
        )
        distance = total_variation(one, other)
        assert distance == pytest.approx(total_variation(other, one))
        assert 0 <= distance <= 1
        rest = 1 - sum(one.values())
        assert total_variation(one, one) == pytest.approx(rest)  # of which nothing is known


def test_true_distributions_are_merged_and_sum_to_one() -> None:
    true = (TrueFuture("It stops", 0.6), TrueFuture("it leaves", 0.3), TrueFuture("it stops", 0.1))
    assert true_probabilities(replace(ROW, true_futures=true)) == pytest.approx(
        {"it stops": 0.7, "it leaves": 0.3}
    )
    rounded = (TrueFuture("it stops", 0.333), TrueFuture("it leaves", 0.666))
    result = true_probabilities(replace(ROW, true_futures=rounded))
    assert sum(result.values()) == pytest.approx(1)
    assert true_probabilities(ROW) == {}


def test_confidences_of_computed_next_events() -> None:
    rows = [
        ROW,
        replace(ROW, id="b", reference=("it leaves",)),
        replace(ROW, id="c", reference=("it turns",)),
        replace(ROW, id="d", futures=()),  # asked, and without
        replace(ROW, id="e", error="cannot read the video"),
        replace(ROW, id="f", reference=("it stops", "it leaves")),  # several may be right
        replace(ROW, id="g", reference=None),
        replace(ROW, id="h", prompt="what is it", futures=()),
    ]
    result = next_event_confidences(rows)
    assert result.values == pytest.approx((0.875,) * 3)
    assert result.correct == (True, False, False)
    assert result.num_without == 2
    assert result.briers == pytest.approx((0.125**2 * 2, 0.875**2 * 2, 0.875**2 + 0.125**2 + 1))
    assert result.nlls == pytest.approx((-math.log(0.875), -math.log(0.125), -math.log(1e-7)))
    assert np.exp(result.logits) == pytest.approx(np.array([[0.7, 0.1]] * 2))
    assert result.outcomes == (0, 1)  # no temperature helps what is not named
    scaled = next_event_confidences(rows, at(0.5))
    assert scaled.values == pytest.approx((0.49 / 0.5,) * 3)
    assert result.num_unlisted == 1
    assert [asks_for_next_event(row) for row in rows] == [True] * 5 + [False] * 3


def test_the_less_the_system_expects_of_what_was_found_the_less_it_gets() -> None:
    """As of a video that shows nothing, of which the few events that are found are a small part."""
    fit = replace(at(1.0, listed=0.6), covered=0.8)
    # This row covers 0.8, as validation rows do in the mean.
    assert sum(event_probabilities(FUTURES, fit).values()) == pytest.approx(0.6)
    expected_little = tuple(
        each._replace(log_likelihood=each.log_likelihood - math.log(4)) for each in FUTURES
    )
    little = event_probabilities(expected_little, fit)
    assert sum(little.values()) == pytest.approx(0.6 / 4)
    assert little["it stops"] == pytest.approx(0.875 * 0.6 / 4)
    # A system that expects all of it is at most sure.
    assert fit.listed_of(1.0) == pytest.approx(0.75)
    assert replace(fit, listed=0.9).listed_of(1.0) == 1.0


def test_a_temperature_makes_probabilities_as_sure_as_they_are_right() -> None:
    # Two times too sure: the likelihoods are squares of what comes true.
    sure = [
        future._replace(log_likelihood=2 * math.log(share))
        for future, share in zip(FUTURES[:2], (0.75, 0.25), strict=True)
    ]
    rows = [
        replace(ROW, id=str(number), futures=tuple(sure), reference=(event,))
        for number, event in enumerate(["it stops"] * 6 + ["it leaves"] * 2 + ["it turns"])
    ]
    confidences = next_event_confidences(rows)
    fit = fitted_temperature(confidences)
    assert fit is not None
    assert fit.num_questions == 8
    assert fit.temperature == pytest.approx(2)
    # In one of nine, the event is not among those that were found.
    assert fit.listed == pytest.approx(8 / 9)
    assert fit.covered == pytest.approx(0.75**2 + 0.25**2)
    shares = event_probabilities(sure, fit)
    assert shares == pytest.approx({"it stops": 6 / 9, "it leaves": 2 / 9})
    assert next_event_confidences(rows, fit).nlls[0] == pytest.approx(-math.log(6 / 9))
