"""Numbers of a verifier: how well its scores part false claims from true ones, by kind."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.verify.claims import KnownClaim
from vidreason.evaluation.confidence.calibration import (
    bin_numbers,
    calibration_error,
    confidence_auroc,
    largest_calibrated_error,
)
from vidreason.evaluation.statistics.intervals import Interval, bootstrap_statistic
from vidreason.evaluation.tables import Field, Table, record_table
from vidreason.evidence.calibration import threshold_at

FIELDS = (
    Field("num_false", "false"),
    Field("num_true", "true"),
    Field("auroc", "AUROC", factor=1.0, decimals=3),
    Field("recall", "recall at the share of false alarms"),
    Field("recall_deployed", "recall at the chosen threshold"),
    Field("false_alarms_deployed", "false alarms there"),
    Field("ece", "ECE"),
)

Floats = NDArray[np.float64]


def score_rows(
    claims: Sequence[KnownClaim], scores: Sequence[float], threshold: float, false_alarms: float
) -> dict[str, dict[str, Any]]:
    """Return the numbers of all claims, of each kind, and of each form of the wrong orders.

    Args:
        claims: The claims.
        scores: Of each, the probability that it is true.
        threshold: Of the verifier, chosen elsewhere.
        false_alarms: Share of the true claims that a threshold may refuse; the recall at it is of
            a threshold for the true claims of that row.
    """
    groups: dict[str, list[int]] = {"all": list(range(len(claims)))}
    for index, claim in enumerate(claims):
        groups.setdefault(claim.kind, []).append(index)
    for index, claim in enumerate(claims):
        # Two events the wrong way round, or a step at another's time: each is shown by itself, too.
        if claim.kind == "wrong_order":
            groups.setdefault(f"wrong_order, as {claim.form}", []).append(index)
    return {
        name: _numbers(
            [claims[index] for index in indices],
            np.array([scores[index] for index in indices]),
            threshold,
            false_alarms,
        )
        for name, indices in groups.items()
    }


def scores_table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """Return the numbers as a table, a row a kind; shares in percent."""
    return record_table(title, "errors", rows, FIELDS)


def _numbers(
    claims: Sequence[KnownClaim], scores: Floats, threshold: float, false_alarms: float
) -> dict[str, Any]:
    is_true = np.array([claim.is_true for claim in claims])
    videos = [claim.video_id for claim in claims]

    def interval(
        measure: Callable[[Floats, NDArray[np.bool_]], float], chance: float | None = None
    ) -> Interval:
        # Whole videos are drawn, with all claims about them.
        return bootstrap_statistic(
            lambda indices: measure(scores[indices], is_true[indices]), videos, chance=chance
        )

    return {
        "num_false": int((~is_true).sum()),
        "num_true": int(is_true.sum()),
        "auroc": interval(lambda values, true: confidence_auroc(values, true.astype(float))),
        "recall": interval(
            # The threshold is chosen anew in each resample, as it varies with the videos, too.
            lambda values, true: _recall(values, true, threshold_of(values, true, false_alarms))
        ),
        "recall_deployed": interval(lambda values, true: _recall(values, true, threshold)),
        "false_alarms_deployed": interval(
            lambda values, true: float((values[true] < threshold).mean()) if true.any() else np.nan
        ),
        "ece": interval(
            lambda values, true: calibration_error(values, true.astype(float)).expected,
            largest_calibrated_error(scores, bin_numbers(scores)),
        ),
    }


def threshold_of(values: Floats, is_true: NDArray[np.bool_], false_alarms: float) -> float:
    """Return the threshold that refuses this share of the true claims; NaN without any."""
    return threshold_at(values[is_true], false_alarms) if is_true.any() else float("nan")


def _recall(values: Floats, is_true: NDArray[np.bool_], threshold: float) -> float:
    """Return the share of false claims below a threshold; NaN without any."""
    false = values[~is_true]
    return float((false < threshold).mean()) if len(false) else float("nan")
