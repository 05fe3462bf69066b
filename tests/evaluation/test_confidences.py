"""From a run's rows to confidences with outcomes."""

import pytest

from vidreason.evaluation.confidence.calibration import calibration_error
from vidreason.evaluation.confidence.confidences import (
    choice_confidences,
    event_confidences,
    fit_choice_temperature,
    fit_event_temperature,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.predictions import Prediction, format_predictions


def choice(name: str, scores: tuple[float, ...], reference: int | None) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id=name,
        corpus="c",
        video_id=name[0],
        options=("a", "b", "c")[: len(scores) or 3],
        option_log_likelihoods=scores,
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
    found = choice_confidences(rows)
    assert found.values == pytest.approx((0.5, 1.0))
    assert found.correct == (True, False)
    assert found.video_ids == ("c:a", "c:b")
    assert found.num_without == 1
    assert calibration_error(found.values, found.correct).expected == pytest.approx(0.75)
    assert choice_confidences(rows, temperature=1e6).values == pytest.approx((0.5, 1 / 3), abs=1e-3)


def test_a_temperature_is_fitted_on_one_split_and_used_on_another() -> None:
    # Sure of all, right on 3 of 4: a higher temperature says 3/4.
    validation = [choice(f"v{n}", (0.0, -9.0), int(n % 4 == 0)) for n in range(40)]
    fit = fit_choice_temperature(validation)
    test = [choice(f"t{n}", (0.0, -9.0), 0) for n in range(4)]
    assert choice_confidences(test).values[0] > 0.99
    assert choice_confidences(test, fit.temperature).values == pytest.approx((0.75,) * 4)
    with pytest.raises(ValueError, match="0 questions"):
        fit_choice_temperature([choice("a", (), 0)])


def test_confidences_of_predicted_events() -> None:
    output = format_predictions(
        [Prediction("the ball stops", "", 0.8), Prediction("the ball leaves", "", 0.3)]
    )
    rows = [
        BenchmarkPrediction(
            id="1", corpus="c", video_id="1", output=output, reference=("the ball leaves",)
        ),
        BenchmarkPrediction(
            id="2", corpus="c", video_id="2", output="I do not know.", reference=("it turns",)
        ),
        BenchmarkPrediction(id="3", corpus="c", video_id="3", output=output),
    ]
    found = event_confidences(rows, lambda row, event: event in (row.reference or ()))
    assert found.values == (0.8, 0.3)
    assert found.correct == (False, True)
    assert found.video_ids == ("c:1", "c:1")
    assert found.num_without == 1
    fit = fit_event_temperature(found)
    scaled = found.scaled(fit.temperature)
    assert scaled.correct == found.correct
    assert abs(scaled.values[0] - 0.5) < 0.01, "wrong when sure: no confidence is worth anything"
