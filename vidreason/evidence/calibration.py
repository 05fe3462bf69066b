"""From signals about a claim to the probability that it is true: a logistic regression."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vidreason.atomic_file import write_atomically
from vidreason.evaluation.manifest import digest_of
from vidreason.evaluation.statistics.clusters import cluster_numbers
from vidreason.json_object import read_json_object

Floats = NDArray[np.float64]

CALIBRATION_FILE = "verifier.json"
"""Name of the file in a reasoner's folder."""

Signals = Mapping[str, float]
"""Numbers that a model gives about one claim, by name; all claims have the same names."""

_STRENGTH = 1.0  # of the penalty on standardised weights: a few hundred claims determine them
_STEPS = 100  # of Newton's method, at most
_NUM_FOLDS = 5  # of videos
_CONVERGED = 1e-10  # largest change of a coefficient at the last step


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Weights of signals, and the threshold that was chosen with them."""

    weights: dict[str, float]
    """By the name of the signal. The weighted sum is the log-odds of a true claim."""
    intercept: float
    threshold: float
    """Probability from which a claim counts as supported."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Origin of the claims that it was fitted on, and of the model; JSON values."""

    def digest(self) -> str:
        """Return 16 hex digits over everything that decides probabilities."""
        return digest_of([self.weights, self.intercept])

    def probabilities(self, signals: Sequence[Signals]) -> list[float]:
        """Return the probability that each claim is true.

        Raises:
            ValueError: The signals are others than those that it was fitted on.
        """
        for given in signals:
            if given.keys() != self.weights.keys():
                raise ValueError(
                    f"the calibration weighs {', '.join(sorted(self.weights))}, and the model "
                    f"gives {', '.join(sorted(given))}: fit another one with "
                    "`python -m experiments.verify`"
                )
        names = sorted(self.weights)
        values = np.array([[given[name] for name in names] for given in signals])
        slopes = np.array([self.weights[name] for name in names])
        # (claims, signals) -> (claims,); each row by itself, so that no claim changes another.
        odds = (values.reshape(len(signals), len(names)) * slopes).sum(axis=1) + self.intercept
        return [float(probability) for probability in _sigmoid(odds)]


def fit_calibration(
    signals: Sequence[Signals],
    is_true: Sequence[bool],
    videos: Sequence[str],
    false_alarms: float,
    provenance: Mapping[str, Any],
) -> Calibration:
    """Fit weights and threshold on claims of which it is known whether they are true.

    Both classes count the same, so a probability of 0.5 stands for even odds where half of the
    claims are true. The threshold is chosen by probabilities that weights of other videos give.

    Args:
        signals: Of each claim.
        is_true: Of each claim.
        videos: Of each claim, the video.
        false_alarms: Share of the true claims that may fall below the threshold.
        provenance: Of claims and model.

    Raises:
        ValueError: The claims are all true or all false, or a signal is not finite.
    """
    names = sorted(signals[0]) if signals else []
    values = np.array([[given[name] for name in names] for given in signals], dtype=np.float64)
    truth = np.asarray(is_true, dtype=bool)
    if not truth.any() or truth.all():
        raise ValueError("a calibration needs claims of both kinds, true and false ones")
    if not np.isfinite(values).all():
        raise ValueError("a signal is not finite; its model is damaged")
    slopes, intercept = _fitted(values, truth)
    # The threshold is of probabilities that other videos gave: a claim's own fit would flatter it.
    unseen = _by_other_videos(values, truth, cluster_numbers(videos) % _NUM_FOLDS)
    return Calibration(
        weights=dict(zip(names, map(float, slopes), strict=True)),
        intercept=intercept,
        threshold=threshold_at(unseen[truth], false_alarms),
        provenance=dict(provenance),
    )


def _by_other_videos(values: Floats, truth: NDArray[np.bool_], folds: NDArray[np.int64]) -> Floats:
    """Return each claim's probability by weights that were fitted on the other folds."""
    probabilities = np.empty(len(values))
    for fold in np.unique(folds):
        # Whole videos are left out: claims of one are alike.
        others = folds != fold
        if truth[others].all() or not truth[others].any():
            others = np.ones(len(values), dtype=bool)  # too few videos to leave some out
        slopes, intercept = _fitted(values[others], truth[others])
        probabilities[folds == fold] = _sigmoid(values[folds == fold] @ slopes + intercept)
    return probabilities


def _fitted(values: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Return weights and intercept for claims of both kinds."""
    means, spreads = values.mean(axis=0), values.std(axis=0)
    # A signal that never varies is 0 in all rows below, and gets no weight.
    spreads[spreads == 0] = 1.0
    # (claims, signals) -> (claims, signals + 1), the last column for the intercept.
    scaled = np.hstack([(values - means) / spreads, np.ones((len(values), 1))])
    # True and false claims count the same in all.
    weights = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum()) * len(truth)
    fitted = _logistic_regression(scaled, truth.astype(np.float64), weights)
    # Back from standardised signals to those that are given.
    slopes = fitted[:-1] / spreads
    return slopes, float(fitted[-1] - slopes @ means)


def threshold_at(scores_of_true: Sequence[float] | Floats, share: float) -> float:
    """Return the largest threshold below which at most a share of the true claims falls.

    Args:
        scores_of_true: Scores of true claims.
        share: From 0 to 1.
    """
    ordered = np.sort(np.asarray(scores_of_true, dtype=np.float64))
    # Of n scores, the k lowest are below the next one.
    lowest = min(int(share * len(ordered) + 1e-9), len(ordered) - 1)
    return float(ordered[lowest])


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, replacing one that is there."""
    write_atomically(path, json.dumps(asdict(calibration), indent=2, sort_keys=True) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Read what :func:`write_calibration` has written.

    Raises:
        ValueError: The file is missing, damaged, or something else.
    """
    content = read_json_object(path)
    weights, intercept = content.get("weights"), content.get("intercept")
    threshold, provenance = content.get("threshold"), content.get("provenance", {})
    if (
        not isinstance(weights, dict)
        or not all(_is_finite(value) for value in weights.values())
        or not _is_finite(intercept)
        or not _is_finite(threshold)
        or not 0 <= threshold <= 1
        or not isinstance(provenance, dict)
    ):
        raise ValueError(
            f"{path} is no calibration of a verifier: expected finite weights, an intercept and a "
            "threshold from 0 to 1; write one with `python -m experiments.verify`"
        )
    return Calibration(
        weights={name: float(value) for name, value in weights.items()},
        intercept=float(intercept),
        threshold=float(threshold),
        provenance=provenance,
    )


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _sigmoid(values: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(values / 2))  # does not overflow


def _logistic_regression(rows: Floats, truth: Floats, weights: Floats) -> Floats:
    """Return coefficients by Newton's method; the last column, all ones, is not penalised."""
    penalty = np.full(rows.shape[1], _STRENGTH)
    # Next to nothing, so that the system below can be solved.
    penalty[-1] = 1e-9
    fitted = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        predicted = _sigmoid(rows @ fitted)
        # (signals + 1,), and the curvature (signals + 1, signals + 1)
        gradient = rows.T @ (weights * (predicted - truth)) + penalty * fitted
        curvature = (rows.T * (weights * predicted * (1 - predicted))) @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        fitted = fitted - step
        if np.abs(step).max() < _CONVERGED:
            break
    return fitted
