"""Worth of confidences: calibration errors, proper scores, and answering only where they are high.

A confidence is the probability that a model gives to its answer (a share of the options'
likelihoods) or prints beside a predicted event. Shapes: n answers, K options.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.statistics.student import CONFIDENCE

Floats = NDArray[np.float64]

_NUM_DRAWS = 200  # of a perfectly calibrated system
CLIP = 1e-7
"""The least probability that a negative log-likelihood is taken of."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Answers with confidences in one range: one bar of a reliability diagram."""

    low: float
    high: float
    num_answers: int
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Share of right answers."""


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """Gap between confidence and accuracy, over bins that hold an answer."""

    expected: float
    """ECE: mean absolute gap, each bin by its share of the answers."""
    maximum: float
    """MCE: the largest absolute gap."""
    root_mean_square: float
    """RMSCE: root of the mean squared gap, each bin by its share of the answers."""
    bins: tuple[ReliabilityBin, ...]


def calibration_error(
    confidences: Sequence[float] | Floats,
    correct: Sequence[bool] | Floats,
    *,
    num_bins: int = 15,
    closed: Literal["right", "left"] = "right",
) -> CalibrationError:
    """Calibration error over bins of equal width.

    The sides matter where a model prints round confidences: in ``right``, bins hold their upper
    bound (Guo et al. 2017), and 0 is in the first; in ``left``, as in torchmetrics 1.9, they hold
    their lower bound, and exactly 1 is in a bin of its own.

    Args:
        confidences: Shape ``(n,)``, from 0 to 1.
        correct: Shape ``(n,)``, 1 for a right and 0 for a wrong answer.
        num_bins: Number of bins.
        closed: Which bound a bin holds.

    Raises:
        ValueError: No answers, different lengths, values out of range, or no bins.
    """
    values, hits = _checked(confidences, correct)
    numbers = bin_numbers(values, num_bins=num_bins, closed=closed)
    edges = np.append(_edges(num_bins), 1.0)  # the bin of exactly 1, empty in `right`
    members = [np.flatnonzero(numbers == number) for number in range(num_bins + 1)]
    bounds = [(float(low), float(high)) for low, high in itertools.pairwise(edges)]
    return _error(values, hits, members, bounds)


def bin_numbers(
    confidences: Floats, *, num_bins: int = 15, closed: Literal["right", "left"] = "right"
) -> NDArray[np.intp]:
    """The bin of equal width that each confidence is in, from 0 on, shape ``(n,)``.

    Raises:
        ValueError: There are no bins.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; it must be at least 1")
    side: Literal["left", "right"] = "left" if closed == "right" else "right"
    return (np.searchsorted(_edges(num_bins), confidences, side=side) - 1).clip(0)


def expected_error(gaps: Floats, numbers: NDArray[np.intp]) -> float:
    """Expected calibration error of answers whose bins are known, as a resample needs it.

    Args:
        gaps: Confidence minus outcome of each answer, shape ``(n,)``.
        numbers: Of :func:`bin_numbers`, or others of the same meaning.
    """
    # Of each bin: its share of the answers, times the gap of its means.
    return float(np.abs(np.bincount(numbers, weights=gaps)).sum()) / len(gaps)


def calibrated_error(confidences: Floats, numbers: NDArray[np.intp]) -> float:
    """Expected calibration error that chance alone gives, the mean of 200 draws.

    In each draw, an answer is right with the probability that its confidence says. Videos with
    several answers are not treated apart, so where those hang together the true value is higher.

    Args:
        confidences: Shape ``(n,)``, from 0 to 1.
        numbers: The bin of each, as of :func:`bin_numbers`.
    """
    return float(np.mean(_calibrated_errors(confidences, numbers)))


def largest_calibrated_error(confidences: Floats, numbers: NDArray[np.intp]) -> float:
    """Expected calibration error that chance alone exceeds in 1 of 40 draws; arguments as above."""
    return float(np.quantile(_calibrated_errors(confidences, numbers), 1 - (1 - CONFIDENCE) / 2))


def _calibrated_errors(confidences: Floats, numbers: NDArray[np.intp]) -> Floats:
    generator = np.random.default_rng(0)
    draws = generator.random((_NUM_DRAWS, len(confidences))) < confidences  # (draws, n)
    return np.array([expected_error(confidences - right, numbers) for right in draws])


def adaptive_bin_numbers(confidences: Floats, *, num_bins: int = 15) -> NDArray[np.intp]:
    """The bin of each confidence, from 0 on, where bins hold equally many answers."""
    numbers = np.empty(len(confidences), dtype=np.intp)
    # The first bins have one more, as those of np.array_split.
    size, larger = divmod(len(confidences), num_bins)
    sizes = np.full(num_bins, size) + (np.arange(num_bins) < larger)
    numbers[np.argsort(confidences, kind="stable")] = np.repeat(np.arange(num_bins), sizes)
    return numbers


def adaptive_calibration_error(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats, *, num_bins: int = 15
) -> CalibrationError:
    """Calibration error over bins with equally many answers (one more in the first bins).

    Answers with the same confidence are taken in the order in which they come.

    Raises:
        ValueError: As :func:`calibration_error`.
    """
    values, hits = _checked(confidences, correct)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; it must be at least 1")
    # Bins of the sorted confidences; their bounds are what they hold.
    order = np.argsort(values, kind="stable")
    members = [of_bin for of_bin in np.array_split(order, num_bins) if len(of_bin)]
    bounds = [(float(values[of_bin[0]]), float(values[of_bin[-1]])) for of_bin in members]
    return _error(values, hits, members, bounds)


def brier_scores(confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats) -> Floats:
    """Squared differences of confidence and outcome, shape ``(n,)``; 0 is best, a coin has 0.25.

    Raises:
        ValueError: As :func:`calibration_error`.
    """
    values, hits = _checked(confidences, correct)
    scores: Floats = (values - hits) ** 2
    return scores


def negative_log_likelihoods(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats
) -> Floats:
    """Negative natural logarithms of what was given to each outcome, at least 1e-7; shape ``(n,)``.

    Raises:
        ValueError: As :func:`calibration_error`.
    """
    values, hits = _checked(confidences, correct)
    losses: Floats = -np.log(np.where(hits == 1, values, 1 - values).clip(CLIP))
    return losses


def option_brier_score(probabilities: Sequence[float], answer: int) -> float:
    """Brier score of a choice: squared differences summed over options, from 0 to 2.

    Args:
        probabilities: Of each option.
        answer: Index of the right one.
    """
    return sum((value - (index == answer)) ** 2 for index, value in enumerate(probabilities))


def option_negative_log_likelihood(probabilities: Sequence[float], answer: int) -> float:
    """Negative natural logarithm of the right option's probability, at least 1e-7."""
    return float(-np.log(max(probabilities[answer], CLIP)))


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
    values, hits = _checked(confidences, correct)
    order = np.argsort(-values, kind="stable")
    _, group, sizes = np.unique(-values[order], return_inverse=True, return_counts=True)
    # Groups of equal confidence, the highest first: the share of wrong ones in each.
    wrong = np.bincount(group, weights=1.0 - hits[order]) / sizes
    kept = np.arange(1, len(values) + 1)
    # (groups,) -> (n,)
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
    values, hits = _checked(confidences, correct)
    right, wrong = values[hits == 1], np.sort(values[hits == 0])
    if not len(right) or not len(wrong):
        return float("nan")
    # Of each right answer, how many wrong ones are below it, and below or equal.
    below = np.searchsorted(wrong, right, side="left")
    not_above = np.searchsorted(wrong, right, side="right")
    # Right answers: mean share of wrong ones below, ties by half; (right,) -> ()
    return float((below + not_above).mean() / 2 / len(wrong))


def _edges(num_bins: int) -> Floats:
    # k / num_bins is the number nearest to the fraction, as is a confidence written in digits, so
    # that 0.6 is on a bound; steps of linspace are not.
    edges: Floats = np.arange(num_bins + 1) / num_bins
    return edges


def _error(
    values: Floats,
    hits: Floats,
    members: Sequence[NDArray[np.intp]],
    bounds: Sequence[tuple[float, float]],
) -> CalibrationError:
    bins = tuple(
        ReliabilityBin(
            low=low,
            high=high,
            num_answers=len(of_bin),
            confidence=float(values[of_bin].mean()),
            accuracy=float(hits[of_bin].mean()),
        )
        for of_bin, (low, high) in zip(members, bounds, strict=True)
        if len(of_bin)
    )
    # Each bin by its share of the answers: (bins,).
    shares = np.array([of_bin.num_answers for of_bin in bins]) / len(values)
    gaps = np.array([abs(of_bin.confidence - of_bin.accuracy) for of_bin in bins])
    return CalibrationError(
        expected=float(shares @ gaps),
        maximum=float(gaps.max()),
        root_mean_square=float(np.sqrt(shares @ gaps**2)),
        bins=bins,
    )


def _checked(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Floats
) -> tuple[Floats, Floats]:
    """Confidences and outcomes as arrays of shape ``(n,)``.

    Raises:
        ValueError: No answers, different lengths, or values out of range.
    """
    values = np.asarray(confidences, dtype=np.float64)
    hits = np.asarray(correct, dtype=np.float64)
    if values.ndim != 1 or not len(values) or values.shape != hits.shape:
        raise ValueError(
            "expected at least one confidence and one outcome for each; found shapes "
            f"{values.shape} and {hits.shape}"
        )
    outside = values[~((values >= 0) & (values <= 1))]
    if len(outside):
        raise ValueError(
            f"{len(outside)} confidences are not from 0 to 1, such as {outside[0]}; leave out "
            "answers without a confidence and report how many there were"
        )
    if not np.isin(hits, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    return values, hits
