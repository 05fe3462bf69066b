"""From a run's rows to confidences with outcomes."""

from dataclasses import replace

import pytest

from vidreason.evaluation.confidence.calibration import calibration_error
from vidreason.evaluation.confidence.confidences import (
    choice_confidences,
    event_confidences,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit, fit_temperature
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT


def choice(name: str, scores: tuple[float, ...], reference: int | None) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id=name,
        corpus="c",
        video_id=name[0],
        options=("a", "b", "c")[: len(scores) or 3],
        option_log_likelihoods=scores,
        option_token_counts=(1,) * len(scores),
        reference=reference,
    )


def test_confidences_of_choices() -> None:
    rows = [
        choice("a1", (0.0, 0.0), 0),
        choice("b1", (0.0, -1e3, -1e3), 1),
        choice("b2", (0.0, -1.0), None),  # hidden reference
        choice("b3", (), 1),  # a generated letter: no likelihoods
        BenchmarkPrediction(id="d", corpus="c", video_id="d", output="x", reference=("x",)),
    ]
    result = choice_confidences(rows)
    assert result.values == pytest.approx((0.5, 1.0))
    assert result.correct == (True, False)
    assert result.video_ids == ("c:a", "c:b")
    assert result.num_without == 1
    assert calibration_error(result.values, result.correct).expected == pytest.approx(0.75)
    warmest = TemperatureFit(temperature=1e6, nll_before=0.0, nll_after=0.0, num_questions=1)
    assert choice_confidences(rows, warmest).values == pytest.approx((0.5, 1 / 3), abs=1e-3)


def test_a_temperature_is_fitted_on_one_split_and_used_on_another() -> None:
    # Sure of all, right on 3 of 4: a higher temperature says 3/4.
    validation = [choice(f"v{n}", (0.0, -9.0), int(n % 4 == 0)) for n in range(40)]
    confidences = choice_confidences(validation)
    fit = fit_temperature(confidences.logits, confidences.outcomes)
    test = [choice(f"t{n}", (0.0, -9.0), 0) for n in range(4)]
    assert choice_confidences(test).values[0] > 0.99
    assert choice_confidences(test, fit).values == pytest.approx((0.75,) * 4)
    assert choice_confidences([choice("a", (), 0)]).logits == ()


def test_confidences_of_predicted_events() -> None:
    output = format_predictions(
        [Prediction("the ball stops", "", 0.8), Prediction("the ball leaves", "", 0.3)]
    )
    rows = [
        BenchmarkPrediction(
            id=number,
            corpus="c",
            video_id=number,
            prompt=FUTURE_PREDICTION_PROMPT,
            output=said,
            reference=reference,
        )
        for number, said, reference in (
            ("1", output, ("the ball leaves",)),
            ("2", "I do not know.", ("it turns",)),
            ("3", output, None),
        )
    ]
    rows.append(replace(rows[0], prompt="what else"))
    result = event_confidences(rows)
    assert result.values == (0.8, 0.3)
    assert result.correct == (False, True)
    assert result.video_ids == ("c:1", "c:1")
    assert result.num_without == 1
    assert result.briers == pytest.approx((0.64, 0.49))
    fit = fit_temperature(result.logits, result.outcomes)
    scaled = event_confidences(rows, fit)
    assert scaled.correct == result.correct
    assert abs(scaled.values[0] - 0.5) < 0.01, "wrong when sure: no confidence is worth anything"
