"""Calibration of computed futures: what it is fitted on, kept as, and does to probabilities."""

import json
import math
from dataclasses import replace

import pytest

from tests.evaluation.test_next_events import row, run, shares
from vidreason.evaluation.confidence.confidences import next_event_confidences
from vidreason.evaluation.confidence.run_calibration import fitted_temperature
from vidreason.evaluation.next_events.event_sets import WITH_TOP, fit_sets
from vidreason.evaluation.next_events.forecast_calibration import (
    ForecastCalibration,
    fit_forecasts,
    read_forecast_calibration,
    write_forecast_calibration,
)
from vidreason.reasoning.reasoner_config import FuturesConfig

BEAMS = FuturesConfig()


@pytest.fixture(scope="module")
def calibration() -> ForecastCalibration:
    fitted = fit_forecasts(run(0.5, seed=2, split="val"), BEAMS)
    assert fitted is not None
    return fitted


def test_it_is_what_the_tables_of_an_evaluation_are_fitted_with(calibration):
    rows = run(0.5, seed=2, split="val")
    temperature = fitted_temperature(next_event_confidences(rows))
    assert temperature is not None
    assert (calibration.temperature, calibration.listed, calibration.covered) == (
        temperature.temperature,
        temperature.listed,
        temperature.covered,
    )
    assert calibration.quantile == fit_sets(rows)[WITH_TOP].quantile
    assert (calibration.level, calibration.num_videos) == (0.9, len(rows))
    # Too few videos, none, and answers that were weighed otherwise.
    assert fit_forecasts(rows[:5], BEAMS) is fit_forecasts([], BEAMS) is None
    assert fit_forecasts(rows, FuturesConfig(temperature=2.0)) is None


def test_flat_probabilities_become_sharper_and_sets_hold_the_top_event(calibration):
    futures = tuple(sorted(shares(0.3, 0.5, 0.2), key=lambda each: -each.probability))
    sharper = calibration.calibrated(futures)
    assert [each.event for each in sharper] == [each.event for each in futures]
    assert sharper[0].probability > 0.5
    assert sum(each.probability for each in sharper) == pytest.approx(calibration.listed)
    # Of what the reasoner itself expects only a half of, no more than a half is sure.
    halved = [each._replace(log_likelihood=each.log_likelihood - math.log(2)) for each in futures]
    unsure = calibration.calibrated(halved)
    assert sum(each.probability for each in unsure) == pytest.approx(calibration.listed / 2)
    assert [each.event for each in calibration.calibrated(halved)] == [e.event for e in futures]
    for quantile, number in ((0.0, 1), (0.6, 2), (1.0, 3)):
        events = replace(calibration, quantile=quantile).likely(futures)
        assert events == tuple(each.event for each in futures[:number])
    assert replace(calibration, quantile=math.inf).likely(futures) == ()
    assert calibration.calibrated(()) == calibration.likely(()) == ()


def test_events_that_were_missed_leave_them_less(calibration):
    rows = run(0.5, seed=2, split="val")
    missed = [row(1000 + number, "another", rows[number].futures) for number in range(10)]
    fitted = fit_forecasts([*rows, *missed], BEAMS)
    assert fitted is not None
    assert fitted.listed == pytest.approx(len(rows) / (len(rows) + 10))
    assert fitted.quantile == math.inf


def test_it_is_for_the_search_that_it_was_fitted_on(calibration):
    assert calibration.is_for(BEAMS)
    for other in ({"method": "nucleus"}, {"num_candidates": 4}, {"temperature": 1.5}):
        assert not calibration.is_for(FuturesConfig(**other))


def test_it_is_kept_as_json_and_damage_is_said(calibration, tmp_path):
    path = tmp_path / "futures.json"
    for one in (calibration, replace(calibration, quantile=math.inf, model="5df2")):
        write_forecast_calibration(path, one)
        assert read_forecast_calibration(path) == one
    values = json.loads(path.read_text())
    # Earlier files do not name a reasoner.
    path.write_text(json.dumps({name: value for name, value in values.items() if name != "model"}))
    assert read_forecast_calibration(path) == replace(one, model="")
    for damaged in (
        {}, [], values | {"more": 1}, values | {"temperature": 0}, values | {"temperature": "1"},
        values | {"listed": 1.2}, values | {"quantile": -1}, values | {"quantile": True},
        values | {"num_videos": 0}, values | {"num_candidates": 1.5}, values | {"method": None},
        values | {"level": None}, values | {"listed": 0}, values | {"model": 5},
        values | {"covered": 0}, values | {"covered": None},
        # No fit gives these; and integers may have more digits than a float can.
        values | {"temperature": 1e-300}, values | {"temperature": 10**399},
        values | {"quantile": -(10**399)}, values | {"listed": 10**399},
    ):  # fmt: skip
        path.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=str(path)):
            read_forecast_calibration(path)
