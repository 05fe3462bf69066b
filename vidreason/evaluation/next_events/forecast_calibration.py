"""Calibration of computed futures, kept beside a reasoner: its probabilities and its 90% sets.

``evaluate`` fits it on the validation videos and writes ``futures.json``; a copy in the reasoner's
folder makes every prediction of :class:`vidreason.pipeline.VideoPipeline` a calibrated one. It says
which reasoner it was fitted on: another one is as sure of itself in another way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidreason.atomic_file import write_json_atomically
from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.confidence.confidences import next_event_confidences
from vidreason.evaluation.confidence.conformal import ConformalFit, conformal_set
from vidreason.evaluation.confidence.event_distributions import event_probabilities
from vidreason.evaluation.confidence.run_calibration import fitted_temperature
from vidreason.evaluation.confidence.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    found_share,
)
from vidreason.evaluation.next_events.event_sets import WITH_TOP, fit_sets
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.json_object import read_json_object
from vidreason.pretrained.identity import reasoner_identity
from vidreason.reasoning.futures import Future, covered_mass, with_temperature
from vidreason.reasoning.reasoner_config import FuturesConfig

CALIBRATION_FILE = "futures.json"
"""Name of the file in a reasoner's folder."""


@dataclass(frozen=True, kw_only=True)
class ForecastCalibration:
    """Temperature, and quantile of the sets; for futures that are searched for in one way."""

    method: str
    num_candidates: int
    temperature: float
    listed: float
    """Share of the videos whose next event was among those that were found."""
    covered: float
    """Mean probability that the reasoner itself gives to what was found."""
    quantile: float
    """Infinite where no set but that of all events would hold the next one often enough."""
    level: float
    """Share of the videos whose next event is to be in its set."""
    num_videos: int
    """Validation videos."""
    model: str = ""
    """Identity of the reasoner (:class:`vidreason.pretrained.identity.ReasonerIdentity`); one that
    does not say it is taken to fit."""

    def is_for(self, config: FuturesConfig) -> bool:
        """Return whether futures are searched for and weighed as when this was fitted."""
        searched = (config.method, config.num_candidates, config.temperature)
        return searched == (self.method, self.num_candidates, 1.0)

    def calibrated(self, futures: Sequence[Future]) -> tuple[Future, ...]:
        """Return all futures of a video with calibrated probabilities, in their order."""
        listed = found_share(self.listed, self.covered, covered_mass(futures))
        return tuple(
            # The rest belongs to events that the search misses.
            future._replace(probability=listed * future.probability)
            for future in with_temperature(futures, self.temperature)
        )

    def likely(self, futures: Sequence[Future]) -> tuple[str, ...]:
        """Return the events of the set, the likeliest first; none where it has no bound.

        Args:
            futures: All of a video, as the search gives them.
        """
        if math.isinf(self.quantile):
            return ()
        sets = ConformalFit(quantile=self.quantile, num_questions=self.num_videos, level=self.level)
        events = set(conformal_set(event_probabilities(futures), sets))
        return tuple(each.event for each in futures if normalise_answer(each.event) in events)


def fit_forecasts(
    validation: Sequence[BenchmarkPrediction], config: FuturesConfig, model: str = ""
) -> ForecastCalibration | None:
    """Fit temperature and sets; None where the answers are too few, or tell of no temperature.

    Args:
        validation: Rows of videos that no test has.
        config: How their futures were searched for.
        model: Identity of the reasoner that found them.
    """
    temperature = fitted_temperature(next_event_confidences(validation))
    sets = fit_sets(validation).get(WITH_TOP)
    if temperature is None or sets is None or config.temperature != 1.0:
        return None
    if temperature.covered is None:  # texts of which each is as good as impossible
        return None
    return ForecastCalibration(
        method=config.method,
        num_candidates=config.num_candidates,
        temperature=temperature.temperature,
        listed=temperature.listed,
        covered=temperature.covered,
        quantile=sets.quantile,
        level=sets.level,
        num_videos=sets.num_questions,
        model=model,
    )


def write_forecast_calibration(path: Path, calibration: ForecastCalibration) -> None:
    """Write it as JSON, replacing one that is there."""
    values = vars(calibration) | {
        "quantile": None if math.isinf(calibration.quantile) else calibration.quantile
    }
    write_json_atomically(path, values)


def calibration_of_folder(folder: Path) -> ForecastCalibration | None:
    """Read that of a reasoner's folder; None where it has none.

    Raises:
        ValueError: The file is damaged, or was fitted on another reasoner.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    calibration = read_forecast_calibration(path)
    # Hashes of a folder that was loaded before are remembered.
    if calibration.model and calibration.model != reasoner_identity(folder).model:
        raise ValueError(
            f"{path} was fitted on another reasoner, {calibration.model[:16]}: fit one on this one "
            f"with `python -m experiments.evaluate model={folder}`, or take it out of the folder"
        )
    return calibration


def read_forecast_calibration(path: Path) -> ForecastCalibration:
    """Read what :func:`write_forecast_calibration` has written.

    Raises:
        ValueError: The file is damaged, or something else.
    """
    # Earlier ones do not say which reasoner they were fitted on.
    content = {"model": ""} | read_json_object(path)
    quantile = content.get("quantile", math.nan)
    values = content | {"quantile": math.inf if quantile is None else quantile}
    if (
        content.keys() != ForecastCalibration.__dataclass_fields__.keys()
        or not all(isinstance(values[name], str) for name in ("method", "model"))
        or not all(_is_count(values[name]) for name in ("num_candidates", "num_videos"))
        or not all(_is_share(values[name]) for name in ("listed", "covered", "level"))
        # No fit gives a temperature beyond its limits; there, probabilities would be 0 and 1.
        or not _is_within(values["temperature"], MIN_TEMPERATURE, MAX_TEMPERATURE)
        or not _is_within(values["quantile"], 0, math.inf)
    ):
        raise ValueError(
            f"{path} is no calibration of futures: write one with `python -m experiments.evaluate`,"
            " or take it out of the folder"
        )
    return ForecastCalibration(**values)


def _is_within(value: Any, least: float, most: float) -> bool:  # noqa: ANN401 - any JSON value
    # Integers of any size are compared, not converted; NaN is within nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_count(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_share(value: Any) -> bool:  # noqa: ANN401
    # A share of none would be fitted on nothing.
    return _is_within(value, 0, 1) and value > 0
