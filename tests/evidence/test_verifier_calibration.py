"""Calibrations of verifiers: probabilities, thresholds, and files of unknown origin."""

import math
import random
from dataclasses import replace

import pytest

from vidreason.evidence.calibration import (
    Calibration,
    fit_calibration,
    read_calibration,
    threshold_at,
    write_calibration,
)


def drawn(count: int, seed: int = 0) -> tuple[list[dict[str, float]], list[bool]]:
    """Claims whose log-odds are ``3 x - 1``, with a signal that says nothing."""
    generator = random.Random(seed)
    signals, truth = [], []
    for _ in range(count):
        x = generator.gauss(0, 1)
        signals.append({"x": x, "noise": generator.gauss(0, 100), "constant": 5.0})
        truth.append(generator.random() < 1 / (1 + math.exp(1 - 3 * x)))
    return signals, truth


def names(signals: list[dict[str, float]]) -> list[str]:
    """A video of its own for each two claims."""
    return [str(number // 2) for number in range(len(signals))]


def test_weights_and_odds_are_recovered() -> None:
    signals, truth = drawn(4000)
    fitted = fit_calibration(signals, truth, names(signals), 0.05, {"claims": "drawn"})
    assert fitted.weights["x"] == pytest.approx(3, abs=0.35)
    assert abs(fitted.weights["noise"]) < 0.01
    probabilities = fitted.probabilities(signals)
    assert all(0 <= value <= 1 for value in probabilities)
    # Both classes weigh the same: even odds are where they are equally likely in a balanced set.
    true = [p for p, is_true in zip(probabilities, truth, strict=True) if is_true]
    false = [p for p, is_true in zip(probabilities, truth, strict=True) if not is_true]
    balanced = (sum(true) / len(true) + sum(false) / len(false)) / 2
    assert balanced == pytest.approx(0.5, abs=0.01)
    refused = sum(value < fitted.threshold for value in true) / len(true)
    assert 0.04 < refused < 0.06


def test_the_threshold_is_not_fitted_to_its_videos() -> None:
    """Weights of many signals without a meaning part the claims that they were fitted on."""
    generator = random.Random(5)
    signals = [{f"s{number}": generator.gauss(0, 1) for number in range(30)} for _ in range(80)]
    truth = [number % 2 == 0 for number in range(80)]
    fitted = fit_calibration(signals, truth, names(signals), 0.05, {})
    of_true = [p for p, true in zip(fitted.probabilities(signals), truth, strict=True) if true]
    # In its own eyes it refuses none; of new claims it would refuse one in twenty.
    assert min(of_true) > fitted.threshold


def test_each_claim_is_weighed_by_itself() -> None:
    signals, truth = drawn(60)
    fitted = fit_calibration(signals, truth, names(signals), 0.05, {})
    together = fitted.probabilities(signals)
    assert together == [fitted.probabilities([one])[0] for one in signals]
    assert fitted.probabilities([]) == []
    extreme = {"x": 1e9, "noise": 0.0, "constant": 5.0}
    assert fitted.probabilities([extreme, extreme | {"x": -1e9}]) == [1.0, 0.0]


def test_signals_that_part_the_claims_entirely_are_fitted() -> None:
    signals = [{"x": float(number)} for number in range(20)]
    fitted = fit_calibration(
        signals, [number >= 10 for number in range(20)], names(signals), 0.0, {}
    )
    assert math.isfinite(fitted.weights["x"])
    values = fitted.probabilities(signals)
    assert values == sorted(values)
    assert max(values[:10]) < fitted.threshold <= min(values[10:])


def test_the_threshold_refuses_at_most_the_share() -> None:
    scores = [number / 100 for number in range(100)]
    for share in (0.0, 0.05, 0.29, 0.5, 1.0):
        threshold = threshold_at(scores, share)
        assert sum(score < threshold for score in scores) <= share * 100 + 1e-6
    assert threshold_at(scores, 0.05) == 0.05
    assert threshold_at([0.5] * 10, 0.05) == 0.5


def test_claims_of_one_kind_cannot_be_fitted() -> None:
    for signals, truth, message in (
        ([{"x": 1.0}], [True], "of both kinds"),
        ([], [], "of both kinds"),
        ([{"x": 1.0}, {"x": math.inf}], [True, False], "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_calibration(signals, truth, names(signals), 0.05, {})


def test_a_file_gives_the_same_calibration(tmp_path) -> None:
    signals, truth = drawn(60)
    fitted = fit_calibration(signals, truth, names(signals), 0.05, {"model": "m", "world_seed": 4})
    write_calibration(tmp_path / "verifier.json", fitted)
    read = read_calibration(tmp_path / "verifier.json")
    assert read == fitted
    assert read.digest() == fitted.digest() != replace(fitted, intercept=0.0).digest()


def test_other_files_are_refused(tmp_path) -> None:
    path = tmp_path / "verifier.json"
    whole = '{"weights": {"x": 1}, "intercept": 0, "threshold": 0.5}'
    path.write_text(whole)
    assert read_calibration(path) == Calibration(weights={"x": 1.0}, intercept=0, threshold=0.5)
    for old, new in (
        ("0.5", "1.5"),
        ("0.5", "true"),
        ("0.5", '"0.5"'),
        ("0.5", "NaN"),
        ("0.5", "1e999"),
        ('{"x": 1}', "[1]"),
        ('{"x": 1}', '{"x": null}'),
        ('"intercept": 0, ', ""),
        ("}", ""),
    ):
        path.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=r"verifier\.json"):
            read_calibration(path)
    with pytest.raises(ValueError, match=r"absent\.json"):
        read_calibration(tmp_path / "absent.json")


def test_signals_of_another_model_are_refused() -> None:
    calibration = Calibration(weights={"log_odds": 1.0}, intercept=0.0, threshold=0.5)
    with pytest.raises(ValueError, match=r"weighs log_odds.*gives event_span"):
        calibration.probabilities([{"event_span": 0.0}])
