"""Whether confidence tells right answers from wrong ones: answering only where it is high."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidreason.evaluation.confidence.calibration import Floats, checked


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Share of wrong answers among the ``k`` most confident ones, for ``k`` from 1 to n."""

    coverage: tuple[float, ...]
    """k / n."""
    risk: tuple[float, ...]
    area: float
    """AURC, the mean of ``risk``; lower is better. A confidence that says nothing gives the share
    of wrong answers."""


def risk_coverage(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats
) -> RiskCoverage:
    """Risk at every coverage.

    Among answers of the same confidence, the wrong ones are spread evenly, so that the result does
    not depend on the order of the answers.

    Args:
        confidences: Shape ``(n,)``, from 0 to 1; only their order matters.
        correct: Shape ``(n,)``, 1 for a right and 0 for a wrong answer.

    Raises:
        ValueError: No answers, not one outcome for each, or values out of range.
    """
    values, hits = checked(confidences, correct)
    order = np.argsort(-values, kind="stable")
    _, group, sizes = np.unique(-values[order], return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=1.0 - hits[order]) / sizes
    kept = np.arange(1, len(values) + 1)
    risk = wrong[group].cumsum() / kept
    return RiskCoverage(
        coverage=tuple((kept / len(values)).tolist()),
        risk=tuple(risk.tolist()),
        area=float(risk.mean()),
    )


def confidence_auroc(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats
) -> float:
    """Probability that a right answer has a higher confidence than a wrong one; ties count half.

    NaN where all answers are right or all are wrong.

    Raises:
        ValueError: As :func:`risk_coverage`.
    """
    values, hits = checked(confidences, correct)
    right, wrong = values[hits == 1], np.sort(values[hits == 0])
    if not len(right) or not len(wrong):
        return float("nan")
    below = np.searchsorted(wrong, right, side="left")
    not_above = np.searchsorted(wrong, right, side="right")
    return float((below + not_above).mean() / 2 / len(wrong))
