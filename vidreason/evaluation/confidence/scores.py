"""All that is said of a run's confidences at once: calibration, proper scores, selective answers.

Of few answers, every calibration error is too high, even of a perfectly calibrated model: compare
it with that of other models on the same questions, never with 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.confidence.calibration import (
    Floats,
    ReliabilityBin,
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    negative_log_likelihood,
    option_brier_score,
    option_negative_log_likelihood,
)
from vidreason.evaluation.confidence.confidences import (
    Confidences,
    choice_confidences,
    choice_probabilities,
)
from vidreason.evaluation.confidence.selective import confidence_auroc, risk_coverage
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.report import Table, interval_row, interval_text
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_statistic,
)

COVERAGES = (0.25, 0.5, 0.75, 1.0)
"""At which shares of the answers, the most confident ones, the share of wrong ones is given."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceScores:
    """Scores of one set of confidences; intervals are over videos."""

    num_answers: int
    """Answers with a confidence, or predicted events."""
    num_without: int
    """Answers without one, of which nothing below says anything."""
    num_videos: int
    accuracy: Interval
    confidence: Interval
    """Mean confidence; above the accuracy, the model is too sure of itself."""
    ece: Interval
    """Over 15 bins of equal width that hold their upper bound (Guo et al. 2017)."""
    ece_left: Interval
    """The same with bins that hold their lower bound, as torchmetrics has it."""
    ece_adaptive: Interval
    """Over 15 bins of equally many answers."""
    maximum_error: float
    """Largest gap of a bin of ``ece``."""
    brier: Interval
    """Of choices summed over options, from 0 to 2; of events from 0 to 1."""
    nll: Interval
    """Of choices that of the right option; of events that of what came of them."""
    auroc: Interval
    """How probably a right answer has a higher confidence than a wrong one."""
    area_under_risk: Interval
    """AURC: mean share of wrong answers over all coverages."""
    risks: tuple[float, ...]
    """Share of wrong answers at each of ``COVERAGES``."""
    bins: tuple[ReliabilityBin, ...]
    """Of ``ece``, for a reliability diagram."""


def choice_scores(
    predictions: Sequence[BenchmarkPrediction], temperature: float = 1.0
) -> ConfidenceScores | None:
    """Scores of the confidences of choices; None where no options were scored.

    Args:
        predictions: Of one run.
        temperature: What the likelihoods a token are divided by.
    """
    confidences = choice_confidences(predictions, temperature)
    if not confidences.values:
        return None
    rows = choice_probabilities(predictions, temperature)
    return _scores(
        confidences,
        [option_brier_score([own], [answer]) for own, answer in rows],
        [option_negative_log_likelihood([own], [answer]) for own, answer in rows],
    )


def event_scores(confidences: Confidences) -> ConfidenceScores | None:
    """Scores of the printed confidences of predicted events; None where there are none.

    Args:
        confidences: Of :func:`vidreason.evaluation.confidence.confidences.event_confidences`.
    """
    if not confidences.values:
        return None
    pairs = list(zip(confidences.values, confidences.correct, strict=True))
    return _scores(
        confidences,
        [brier_score([value], [hit]) for value, hit in pairs],
        [negative_log_likelihood([value], [hit]) for value, hit in pairs],
    )


def confidence_table(
    title: str, by_name: Mapping[str, ConfidenceScores], fit: TemperatureFit | None
) -> Table:
    """Scores of one run's confidences, as they are and at a fitted temperature.

    Args:
        title: What the confidences are of.
        by_name: Scores by name of the row.
        fit: Of the temperature, if one was fitted.
    """
    first = next(iter(by_name.values()))
    title += f", n={first.num_answers}, without one {first.num_without}"
    title += f", 95% interval over {first.num_videos} videos"
    if fit is not None:
        title += f"; temperature {fit.temperature:.3g} of {fit.num_questions} validation answers"
    return Table(
        title,
        (
            *("confidences", "accuracy", "confidence", "ECE (lo,hi]", "ECE [lo,hi)"),
            *("adaptive ECE", "MCE", "Brier", "NLL", "AUROC", "AURC"),
            *(f"wrong among {100 * share:.0f}%" for share in COVERAGES),
        ),
        tuple(
            (
                name,
                *map(interval_text, (own.accuracy, own.confidence)),
                *map(interval_text, (own.ece, own.ece_left, own.ece_adaptive)),
                f"{100 * own.maximum_error:.1f}",
                *(interval_text(one, factor=1.0, decimals=3) for one in (own.brier, own.nll)),
                *map(interval_text, (own.auroc, own.area_under_risk)),
                *(f"{100 * risk:.1f}" for risk in own.risks),
            )
            for name, own in by_name.items()
        ),
    )


def confidence_rows(
    by_name: Mapping[str, ConfidenceScores], fit: TemperatureFit | None
) -> dict[str, Any]:
    """Scores for JSON; None where a number is not defined."""
    return {
        "temperature": None if fit is None else asdict(fit),
        "scores": {
            name: {
                "num_answers": own.num_answers,
                "num_without": own.num_without,
                "num_videos": own.num_videos,
                **interval_row("accuracy", own.accuracy),
                **interval_row("confidence", own.confidence),
                **interval_row("ece", own.ece),
                **interval_row("ece_left", own.ece_left),
                **interval_row("ece_adaptive", own.ece_adaptive),
                "maximum_error": own.maximum_error,
                **interval_row("brier", own.brier),
                **interval_row("nll", own.nll),
                **interval_row("auroc", own.auroc),
                **interval_row("area_under_risk", own.area_under_risk),
                "risk_at_coverage": dict(zip(map(str, COVERAGES), own.risks, strict=True)),
                "bins": [asdict(one) for one in own.bins],
            }
            for name, own in by_name.items()
        },
    }


def _scores(
    confidences: Confidences, briers: Sequence[float], nlls: Sequence[float]
) -> ConfidenceScores:
    values = np.array(confidences.values)
    hits = np.array(confidences.correct, dtype=np.float64)
    videos = confidences.video_ids

    def interval(measure: Callable[[Floats, Floats], float]) -> Interval:
        def statistic(places: NDArray[np.intp]) -> float:
            return measure(values[places], hits[places])

        return bootstrap_statistic(statistic, videos)

    error = calibration_error(values, hits)
    risk = risk_coverage(values, hits).risk
    return ConfidenceScores(
        num_answers=len(values),
        num_without=confidences.num_without,
        num_videos=len(set(videos)),
        accuracy=bootstrap_interval(hits, videos),
        confidence=bootstrap_interval(values, videos),
        ece=interval(lambda own, right: calibration_error(own, right).expected),
        ece_left=interval(lambda own, right: calibration_error(own, right, closed="left").expected),
        ece_adaptive=interval(lambda own, right: adaptive_calibration_error(own, right).expected),
        maximum_error=error.maximum,
        brier=bootstrap_interval(briers, videos, limits=(0.0, 2.0)),
        nll=bootstrap_interval(nlls, videos, limits=None),
        auroc=interval(confidence_auroc),
        area_under_risk=interval(lambda own, right: risk_coverage(own, right).area),
        risks=tuple(risk[max(0, round(share * len(risk)) - 1)] for share in COVERAGES),
        bins=error.bins,
    )
