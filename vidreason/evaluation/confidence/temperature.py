"""Temperature scaling (Guo et al. 2017): one number, fitted on a validation split.

Scores are divided by it before they become probabilities. The order of the options, and with it
accuracy, stays as it is; only the confidence changes. Fit on validation questions, apply to test
questions: a temperature fitted on what it is judged by says nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidreason.evaluation.confidence.calibration import CLIP, Floats

MIN_TEMPERATURE = 1e-3  # limits of the search
MAX_TEMPERATURE = 1e3
_NUM_HALVINGS = 100  # far below the spacing of doubles


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    """The temperature under which the right answers of a split are the most likely."""

    temperature: float
    """At most 1e3 and at least 1e-3: those values say that the scores rank no better than chance,
    or that no answer was wrong."""
    nll_before: float
    """Mean negative log-likelihood of the right answers at temperature 1."""
    nll_after: float
    num_questions: int
    listed: float = 1.0
    """Share of all questions whose right answer was among those that were scored, where a search
    may miss it."""
    covered: float | None = None
    """Mean probability that the system itself gives to what was found; None where nothing is
    searched for."""

    @property
    def is_at_limit(self) -> bool:
        """Return whether any further temperature would be better: the answers tell of none."""
        return not 1.01 * MIN_TEMPERATURE < self.temperature < MAX_TEMPERATURE / 1.01

    def listed_of(self, covered: float) -> float:
        """Return the probability, from 0 to 1, that one question's right answer was found.

        Args:
            covered: Probability that the system gives to what was found.
        """
        return (
            self.listed if self.covered is None else found_share(self.listed, self.covered, covered)
        )


def found_share(listed: float, mean_covered: float, covered: float) -> float:
    """Return the probability, from 0 to 1, that what comes is among what a search has found.

    It is the less the less the system itself expects of what was found: a search finds few of the
    many things that may come of a video that says little.

    Args:
        listed: How often it was among them in validation.
        mean_covered: Mean probability that the system gave to what was found there; above 0.
        covered: The probability that it gives to what was found for one question.
    """
    return min(listed * covered / mean_covered, 1.0)


def option_probabilities(
    log_likelihoods: Sequence[float], temperature: float = 1.0
) -> tuple[float, ...]:
    """Softmax of one question's scores divided by ``temperature``.

    Raises:
        ValueError: No scores, a score that is not finite, or a temperature of 0 or less.
    """
    scores = np.asarray(log_likelihoods, dtype=np.float64)
    if not scores.size or not np.isfinite(scores).all() or not temperature > 0:
        raise ValueError(
            "expected finite scores and a temperature above 0; found "
            f"{list(log_likelihoods)} and {temperature}"
        )
    weights = np.exp((scores - scores.max()) / temperature)  # the largest is 1: nothing overflows
    return tuple((weights / weights.sum()).tolist())


def fit_temperature(
    log_likelihoods: Sequence[Sequence[float]], answers: Sequence[int]
) -> TemperatureFit:
    """Fit the temperature of scores.

    The negative log-likelihood is convex in ``1 / temperature``, so halving the interval finds the
    one optimum: there is no seed, no start and no step size.

    Args:
        log_likelihoods: For each question, its options' scores; questions may have different
            numbers of options.
        answers: Index of the right option of each question.

    Raises:
        ValueError: No questions, different lengths, a score that is not finite, or an answer that
            is no option.
    """
    if not log_likelihoods or len(log_likelihoods) != len(answers):
        raise ValueError(
            f"expected at least one question and one answer for each; found {len(log_likelihoods)} "
            f"questions and {len(answers)} answers"
        )
    # (questions, most options), padded with -inf, which has no weight.
    scores = np.full((len(answers), max(map(len, log_likelihoods))), -np.inf)
    for number, (logits, answer) in enumerate(zip(log_likelihoods, answers, strict=True)):
        if not 0 <= answer < len(logits) or not all(map(math.isfinite, logits)):
            raise ValueError(
                f"question {number} has scores {list(logits)} and answer {answer}; scores must be "
                "finite and the answer one of them"
            )
        scores[number, : len(logits)] = logits
    right = scores[np.arange(len(answers)), np.asarray(answers)]  # (questions,)
    # The slope by 1 / temperature only rises: halve where it changes sign.
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(_NUM_HALVINGS):
        # In between on a scale of factors, where the interval is symmetric about 1.
        middle = math.sqrt(low * high)
        if _slope(scores, right, middle) > 0:
            high = middle
        else:
            low = middle
    inverse = math.sqrt(low * high)
    return TemperatureFit(
        temperature=1 / inverse,
        nll_before=_nll(scores, right, 1.0),
        nll_after=_nll(scores, right, inverse),
        num_questions=len(answers),
    )


def log_odds(confidence: float) -> float:
    """Log-odds of a printed confidence, whose probabilities are those of the scores ``(it, 0)``.

    Raises:
        ValueError: The confidence is not from 0 to 1.
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"a confidence must be from 0 to 1, found {confidence}")
    clipped = min(max(confidence, CLIP), 1 - CLIP)
    return math.log(clipped) - math.log1p(-clipped)


def _slope(scores: Floats, right: Floats, inverse: float) -> float:
    """Derivative of the negative log-likelihood by ``1 / temperature``."""
    # The largest score is moved to 0, so nothing overflows.
    shifted = (scores - scores.max(axis=1, keepdims=True)) * inverse
    weights = np.exp(shifted)
    finite = np.where(np.isneginf(scores), 0.0, scores)  # 0 * -inf would be NaN
    return float(np.mean((weights * finite).sum(axis=1) / weights.sum(axis=1) - right))


def _nll(scores: Floats, right: Floats, inverse: float) -> float:
    top = scores.max(axis=1)
    # (questions,), without top * inverse
    normaliser = np.log(np.exp((scores - top[:, None]) * inverse).sum(axis=1))
    return float(np.mean(normaliser - (right - top) * inverse))
