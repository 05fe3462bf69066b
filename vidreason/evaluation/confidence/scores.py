"""All that is said of a run's confidences at once: calibration, proper scores, selective answers.

Of few answers, every calibration error is too high, even of a perfectly calibrated model: compare
it with what such a model would have (``ece_calibrated``), never with 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.confidence.calibration import (
    CalibrationError,
    Floats,
    adaptive_bin_numbers,
    adaptive_calibration_error,
    bin_numbers,
    calibrated_error,
    calibration_error,
    confidence_auroc,
    expected_error,
    largest_calibrated_error,
    risk_coverage,
)
from vidreason.evaluation.confidence.confidences import Confidences
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_statistic,
)
from vidreason.evaluation.tables import Field, Table, record_row, record_table

COVERAGES = (0.25, 0.5, 0.75, 1.0)
"""At which shares of the answers, the most confident ones, the share of wrong ones is given."""
_CALIBRATION = (
    Field("num_answers", "n"),
    Field("accuracy", "accuracy"),
    Field("confidence", "confidence"),
    Field("ece", "ECE"),
    Field("ece_calibrated", "ECE if calibrated"),
    Field("brier", "Brier", factor=1.0, decimals=3),
    Field("nll", "NLL", factor=1.0, decimals=3),
)
_RANKING = (
    Field("auroc", "AUROC"),
    Field("area_under_risk", "AURC"),
    *(Field(str(share), f"wrong among {100 * share:.0f}%") for share in COVERAGES),
)
"""Numbers that are shown, in two tables that a page has the width for; errors in other bins are in
JSON."""

ConfidenceScores = dict[str, Any]
"""Scores of one set of confidences, by the names that :func:`confidence_scores` lists."""


def confidence_scores(confidences: Confidences) -> ConfidenceScores:
    """Score confidences, of which there must be some; intervals are over videos.

    * ``num_answers``: answers with a confidence, or predicted events; ``num_without``: answers
      without one, which no other score counts; ``num_videos``.
    * ``accuracy``, and the mean ``confidence``: above the accuracy, the model is overconfident.
    * ``ece``: over 15 bins of equal width that hold their upper bound (Guo et al. 2017);
      ``ece_left``: their lower bound, as in torchmetrics; ``ece_adaptive``: over 15 bins of equally
      many answers; ``maximum_error``: the largest gap of a bin of ``ece``.
    * ``ece_calibrated``: mean ECE, in the bins of ``ece``, of a model with these confidences each
      of which is right with just that probability (consistency resampling, Broecker & Smith 2007).
    * ``brier``: of choices summed over options, from 0 to 2; of events from 0 to 1; ``nll``.
    * ``auroc``: how probably a right answer has a higher confidence than a wrong one.
    * ``area_under_risk``: AURC, the mean share of wrong answers over all coverages, and
      ``risk_at_coverage``: that share at each of ``COVERAGES``.
    * ``bins``: of ``ece``, for a reliability diagram.
    """
    values = np.array(confidences.values)
    hits = np.array(confidences.correct, dtype=np.float64)
    videos = confidences.video_ids

    def interval(
        measure: Callable[[Floats, Floats], float], chance: float | None = None
    ) -> Interval:
        def statistic(indices: NDArray[np.intp]) -> float:
            return measure(values[indices], hits[indices])

        return bootstrap_statistic(statistic, videos, chance=chance)

    def error_interval(numbers: NDArray[np.intp], error: CalibrationError) -> Interval:
        """Interval of an error over fixed bins, of which a resample takes the answers' own."""
        gaps = values - hits
        drawn = bootstrap_statistic(
            lambda indices: expected_error(gaps[indices], numbers[indices]),
            videos,
            chance=largest_calibrated_error(values, numbers),
        )
        return drawn._replace(mean=error.expected)

    # Point values over all answers; the intervals resample whole videos.
    error = calibration_error(values, hits)
    risk = risk_coverage(values, hits).risk
    return {
        "num_answers": len(values),
        "num_without": confidences.num_without,
        "num_videos": len(set(videos)),
        "accuracy": bootstrap_interval(hits, videos),
        "confidence": bootstrap_interval(values, videos),
        "ece": error_interval(bin_numbers(values), error),
        "ece_calibrated": calibrated_error(values, bin_numbers(values)),
        "ece_left": error_interval(
            bin_numbers(values, closed="left"), calibration_error(values, hits, closed="left")
        ),
        # Equal bins depend on the answers, so each resample has bins of its own.
        "ece_adaptive": interval(
            lambda drawn, right: expected_error(drawn - right, adaptive_bin_numbers(drawn)),
            largest_calibrated_error(values, adaptive_bin_numbers(values)),
        )._replace(mean=adaptive_calibration_error(values, hits).expected),
        "maximum_error": error.maximum,
        "brier": bootstrap_interval(confidences.briers, videos, limits=(0.0, 2.0)),
        "nll": bootstrap_interval(confidences.nlls, videos, limits=None),
        "auroc": interval(confidence_auroc),
        "area_under_risk": interval(lambda drawn, right: risk_coverage(drawn, right).area),
        # At each coverage one answer at least.
        "risk_at_coverage": {
            str(share): risk[max(0, round(share * len(risk)) - 1)] for share in COVERAGES
        },
        "bins": [asdict(one) for one in error.bins],
    }


def confidence_tables(
    title: str, by_name: Mapping[str, ConfidenceScores], fit: TemperatureFit | None
) -> tuple[Table, Table]:
    """Scores of confidences, as they are and at a fitted temperature: how true, and how telling.

    Args:
        title: What the confidences are of.
        by_name: Scores by name of the row; the title names the numbers of the first.
        fit: Of the temperature, if one was fitted.
    """
    first = next(iter(by_name.values()))
    size = f"n={first['num_answers']}, without one {first['num_without']}"
    size += f", 95% interval over {first['num_videos']} videos"
    of_fit = ""
    if fit is not None:
        of_fit = f"; temperature {fit.temperature:.3g} of {fit.num_questions} validation answers"
        if fit.listed < 1:
            of_fit += f", the {100 * fit.listed:.0f}% whose event was found"
    # The shares at coverages are columns of their own.
    records = {name: {**scores, **scores["risk_at_coverage"]} for name, scores in by_name.items()}
    return (
        record_table(f"{title}, {size}{of_fit}", "confidences", records, _CALIBRATION),
        record_table(
            f"{title}, right answers before wrong ones, {size}", "confidences", records, _RANKING
        ),
    )


def confidence_rows(
    by_name: Mapping[str, ConfidenceScores], fit: TemperatureFit | None
) -> dict[str, Any]:
    """Scores for JSON; None where a number is not defined."""
    return {
        "temperature": None if fit is None else asdict(fit),
        "scores": {name: record_row(scores) for name, scores in by_name.items()},
    }
