"""Calibration against golden values, torchmetrics, and confidences whose truth is known."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vidreason.evaluation.confidence.calibration import (
    adaptive_calibration_error,
    bin_numbers,
    brier_scores,
    calibrated_error,
    calibration_error,
    confidence_auroc,
    expected_error,
    largest_calibrated_error,
    negative_log_likelihoods,
    option_brier_score,
    option_negative_log_likelihood,
    risk_coverage,
)
from vidreason.evaluation.confidence.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    log_odds,
    option_probabilities,
)
from vidreason.evaluation.statistics.intervals import bootstrap_statistic

GOLDEN = json.loads((Path(__file__).parents[1] / "assets/golden/golden_metrics.json").read_text())[
    "calibration"
]
CONFIDENCES, CORRECT = GOLDEN["confidence"], GOLDEN["correct"]


@pytest.mark.parametrize("num_bins", [5, 10, 15])
def test_errors_over_bins_of_equal_width(num_bins: int) -> None:
    right = calibration_error(CONFIDENCES, CORRECT, num_bins=num_bins)
    name = str(num_bins)
    assert right.expected == pytest.approx(GOLDEN["ece_right_closed"][name], abs=1e-9)
    assert right.maximum == pytest.approx(GOLDEN["mce_right_closed"][name], abs=1e-9)
    assert right.root_mean_square == pytest.approx(GOLDEN["rmsce_right_closed"][name], abs=1e-9)
    left = calibration_error(CONFIDENCES, CORRECT, num_bins=num_bins, closed="left")
    assert left.expected == pytest.approx(GOLDEN["ece_left_closed"][name], abs=1e-9)
    theirs = GOLDEN["torchmetrics_1.9.0"]
    result = (left.expected, left.root_mean_square, left.maximum)
    expected = [theirs[f"BinaryCalibrationError_{norm}_{num_bins}"] for norm in ("l1", "l2", "max")]
    assert result == pytest.approx(expected, abs=1e-6)


def test_errors_over_bins_of_equal_size() -> None:
    for num_bins in (5, 10):
        result = adaptive_calibration_error(CONFIDENCES, CORRECT, num_bins=num_bins)
        golden = GOLDEN["adaptive_ece_equal_mass"][str(num_bins)]
        assert result.expected == pytest.approx(golden, abs=1e-9)
        assert {one.num_answers for one in result.bins} == {20 // num_bins}


def test_proper_scores_and_selection() -> None:
    assert brier_scores(CONFIDENCES, CORRECT).mean() == pytest.approx(GOLDEN["brier"], abs=1e-9)
    nlls = negative_log_likelihoods(CONFIDENCES, CORRECT)
    assert nlls.mean() == pytest.approx(GOLDEN["nll_clipped_1e-7"], abs=1e-9)
    auroc = confidence_auroc(CONFIDENCES, CORRECT)
    assert auroc == pytest.approx(GOLDEN["auroc_confidence_separates_correct"], abs=1e-9)
    assert risk_coverage(CONFIDENCES, CORRECT).area == pytest.approx(GOLDEN["aurc"], abs=1e-9)


def test_a_bin_is_a_bar_of_the_diagram() -> None:
    result = calibration_error([0.1, 0.2, 0.2, 0.9, 1.0], [0, 0, 1, 1, 1], num_bins=2)
    assert [(one.low, one.high, one.num_answers) for one in result.bins] == [
        (0, 0.5, 3),
        (0.5, 1, 2),
    ]
    assert result.bins[0].confidence == pytest.approx(0.5 / 3)
    assert result.bins[0].accuracy == pytest.approx(1 / 3)


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 1.0, size=20_000)
    correct = (rng.random(20_000) < truth).astype(float)
    overconfident = 1 - (1 - truth) ** 2
    assert calibration_error(truth, correct).expected < 0.015
    assert adaptive_calibration_error(truth, correct).expected < 0.02
    assert calibration_error(overconfident, correct).expected > 0.1
    for measure in (brier_scores, negative_log_likelihoods):
        assert measure(truth, correct).mean() < measure(overconfident, correct).mean()
    # The order is the same, so what only looks at the order does not change.
    assert confidence_auroc(truth, correct) == confidence_auroc(overconfident, correct)


def test_risk_does_not_depend_on_the_order_of_equal_confidences() -> None:
    confidences, correct = [0.9, 0.9, 0.9, 0.5], [1, 0, 1, 0]
    result = risk_coverage(confidences, correct)
    assert result.coverage == (0.25, 0.5, 0.75, 1.0)
    assert result.risk == pytest.approx((1 / 3, 1 / 3, 1 / 3, 0.5))
    assert risk_coverage(confidences, [0, 1, 1, 0]) == result
    assert risk_coverage([0.7] * 4, correct).area == pytest.approx(0.5)
    assert confidence_auroc([0.7] * 4, correct) == 0.5
    assert math.isnan(confidence_auroc([0.1, 0.2], [1, 1]))


def test_scores_over_options() -> None:
    assert option_brier_score((0.7, 0.2, 0.1), 0) == pytest.approx(0.09 + 0.04 + 0.01)
    assert option_brier_score((0.5, 0.5), 1) == pytest.approx(0.5)
    assert option_negative_log_likelihood((0.7, 0.2, 0.1), 0) == pytest.approx(-math.log(0.7))
    assert option_negative_log_likelihood((1.0, 0.0), 1) == pytest.approx(-math.log(1e-7))


def mean_nll(probabilities: Iterable[Sequence[float]], answers: Iterable[int]) -> float:
    pairs = zip(probabilities, answers, strict=True)
    return float(np.mean([option_negative_log_likelihood(*pair) for pair in pairs]))


def scored_questions(temperature: float, num_questions: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax at ``temperature`` is the truth."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(num_questions, 5))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = (truth.cumsum(axis=1) < rng.random((num_questions, 1))).sum(axis=1)
    return logits * temperature, answers


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_the_scores_is_found(temperature: float) -> None:
    scores, answers = scored_questions(temperature, 20_000)
    fit = fit_temperature(scores.tolist(), answers.tolist())
    assert fit.temperature == pytest.approx(temperature, rel=0.04)
    assert fit.num_questions == 20_000
    assert fit.nll_after <= fit.nll_before
    # No other temperature nearby is better.
    for factor in (0.98, 1.02):
        probabilities = [option_probabilities(one, fit.temperature * factor) for one in scores]
        assert mean_nll(probabilities, answers.tolist()) > fit.nll_after


def test_scaling_makes_held_out_confidences_calibrated_and_keeps_the_choice() -> None:
    scores, answers = scored_questions(3.0, 8_000)
    fit = fit_temperature(scores[:4000].tolist(), answers[:4000].tolist())
    errors = []
    for temperature in (1.0, fit.temperature):
        probabilities = np.array([option_probabilities(one, temperature) for one in scores[4000:]])
        chosen = probabilities.argmax(axis=1)
        assert (chosen == scores[4000:].argmax(axis=1)).all()
        hits = (chosen == answers[4000:]).astype(float)
        errors.append(calibration_error(probabilities.max(axis=1), hits).expected)
    assert errors[0] > 0.2
    assert errors[1] < 0.03


def test_questions_may_have_different_numbers_of_options() -> None:
    scores = [(-1.0, -2.0), (-1.0, -2.0, -3.0), (-2.0, -1.0)]
    fit = fit_temperature(scores, [0, 1, 1])
    padded = [(*one, -1e6) for one in scores]
    assert fit.temperature == pytest.approx(fit_temperature(padded, [0, 1, 1]).temperature)
    probabilities = [option_probabilities(one, fit.temperature) for one in scores]
    assert mean_nll(probabilities, [0, 1, 1]) == pytest.approx(fit.nll_after)


def test_extreme_fits_stop_at_the_bounds() -> None:
    assert fit_temperature([(0.0, -1.0)] * 3, [0] * 3).temperature == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature([(0.0, -1.0)] * 3, [1] * 3).temperature == pytest.approx(MAX_TEMPERATURE)


def test_printed_confidences_are_scaled_in_log_odds() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.05, 0.95, size=20_000)
    correct = rng.random(20_000) < truth
    odds = truth / (1 - truth)
    printed = odds**2 / (1 + odds**2)  # twice the log-odds: too sure of itself
    logits = [(log_odds(value), 0.0) for value in printed.tolist()]
    fit = fit_temperature(logits, [int(not hit) for hit in correct])
    assert fit.temperature == pytest.approx(2.0, rel=0.05)
    assert option_probabilities(logits[0], 2.0)[0] == pytest.approx(truth[0])
    assert option_probabilities((log_odds(0.5), 0.0), 7.0)[0] == 0.5
    assert option_probabilities((log_odds(0.3), 0.0), 1.0)[0] == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"from 0 to 1, found 1\.5"):
        log_odds(1.5)


@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        ([], [], "at least one confidence"),
        ([0.5], [1, 0], r"shapes \(1,\) and \(2,\)"),
        ([0.5, 1.5], [1, 0], "1 confidences are not from 0 to 1, such as 1.5"),
        ([float("nan")], [1], "not from 0 to 1, such as nan"),
        ([0.5], [0.5], "outcomes must be 0 or 1"),
    ],
)
def test_arguments_that_would_give_a_wrong_number_are_refused(confidences, correct, message):
    for metric in (calibration_error, adaptive_calibration_error, brier_scores):
        with pytest.raises(ValueError, match=message):
            metric(confidences, correct)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="num_bins is 0"):
        calibration_error([0.5], [1], num_bins=0)
    with pytest.raises(ValueError, match="not from 0 to 1, such as nan"):
        risk_coverage([float("nan")], [1])
    with pytest.raises(ValueError, match="question 0 has scores"):
        fit_temperature([(0.0, float("-inf"))], [0])
    with pytest.raises(ValueError, match="2 questions and 1 answers"):
        fit_temperature([(0.0,), (1.0,)], [0])
    with pytest.raises(ValueError, match="temperature above 0"):
        option_probabilities((0.0, 1.0), 0.0)


def test_few_answers_of_a_calibrated_model_have_an_error() -> None:
    """Chance alone gives it: it comes out of the confidences, and vanishes with many answers."""
    generator = np.random.default_rng(1)
    confidences = generator.uniform(0.2, 1.0, 100)
    seen = [
        calibration_error(confidences, generator.random(100) < confidences).expected
        for _ in range(200)
    ]
    expected = calibrated_error(confidences, bin_numbers(confidences))
    assert expected == pytest.approx(float(np.mean(seen)), abs=0.01)
    assert expected > 0.08
    many = generator.uniform(0.2, 1.0, 20_000)
    assert calibrated_error(many, bin_numbers(many)) < 0.015
    # Whoever is sure and right has none.
    assert calibrated_error(np.ones(5), bin_numbers(np.ones(5))) == 0


@pytest.mark.parametrize("gap", [0.0, 0.03, 0.1])
def test_intervals_hold_the_true_error_though_noise_raises_what_is_seen(gap: float) -> None:
    generator = np.random.default_rng(2)
    videos = [str(number) for number in range(200)]
    held = 0
    for _ in range(60):
        confidences = generator.uniform(gap, 1.0, len(videos))
        right = generator.random(len(videos)) < confidences - gap
        gaps, numbers = confidences - right, bin_numbers(confidences)

        def error(chosen: NDArray[np.intp], gaps=gaps, numbers=numbers) -> float:
            return expected_error(gaps[chosen], numbers[chosen])

        chance = largest_calibrated_error(confidences, numbers)
        mean, low, high = bootstrap_statistic(error, videos, chance=chance, num_resamples=100)
        assert low <= mean <= high
        held += low <= gap <= high
    # Percentiles alone hold an error of 0 or 0.03 in none of them.
    assert held >= 45
