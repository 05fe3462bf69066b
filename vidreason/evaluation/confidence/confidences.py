"""The confidences of a run's answers, with what came of them, for calibration.

Three kinds: of a choice, the share of the chosen option when the options' likelihoods per token are
made probabilities; of a predicted event, the number that the model prints beside it; of the most
probable next event, its computed probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vidreason.evaluation.confidence.calibration import (
    CLIP,
    brier_scores,
    negative_log_likelihoods,
    option_brier_score,
    option_negative_log_likelihood,
)
from vidreason.evaluation.confidence.event_distributions import (
    asks_for_next_event,
    event_brier_score,
    event_probabilities,
    event_scores,
    has_futures,
    next_event,
    top_event,
)
from vidreason.evaluation.confidence.temperature import (
    TemperatureFit,
    log_odds,
    option_probabilities,
)
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    grade,
    has_finite_scores,
    right_options,
)
from vidreason.evaluation.protocols import is_event
from vidreason.reasoning.futures import covered_mass
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT


@dataclass(frozen=True, kw_only=True)
class Confidences:
    """Confidences and outcomes of the n answers that have both."""

    values: tuple[float, ...]
    correct: tuple[bool, ...]
    video_ids: tuple[str, ...]
    """Video of each answer, for intervals over videos."""
    briers: tuple[float, ...]
    """Brier score of each answer: of choices and of computed probabilities summed over options or
    events, from 0 to 2; of printed confidences from 0 to 1."""
    nlls: tuple[float, ...]
    """Negative log-likelihood of each outcome."""
    logits: tuple[tuple[float, ...], ...]
    """Scores, before a temperature, of what could have come of an answer, to fit one on; answers
    for which no single score is the right one's are left out."""
    outcomes: tuple[int, ...]
    """Indices of the right ones in ``logits``."""
    num_unlisted: int = 0
    """Answers whose outcome is not among what was scored."""
    covered: tuple[float, ...] = ()
    """Probability that the system gives to what was scored of each answer; none where that is all
    that there is."""
    num_without: int
    """Rows with a reference but without a confidence; a calibration error says nothing of them."""


def choice_confidences(
    predictions: Sequence[BenchmarkPrediction], fit: TemperatureFit | None = None
) -> Confidences:
    """Confidences of the chosen options, of rows whose options were scored.

    Options with the text of the right one are one option with it: nobody can tell them apart. An
    order of the options alone, as a prior gives, is no likelihood.

    Args:
        predictions: Of one run; rows without options are left out.
        fit: Its temperature divides the likelihoods; of other questions.
    """
    temperature = 1.0 if fit is None else fit.temperature
    scored = [
        grade(row)
        for row in predictions
        if has_finite_scores(row)
        and row.option_token_counts
        and isinstance(row.reference, int)
        and not row.error
    ]
    values, briers, nlls = [], [], []
    for row in scored:
        # Twins of the right option share its probability.
        right = right_options(row)
        shares = option_probabilities(row.option_log_likelihoods, temperature)
        answer, share_of_right = right[0], min(sum(shares[index] for index in right), 1.0)
        values.append(share_of_right if row.parsed in right else max(shares))
        # All right options become the last one.
        if len(right) > 1:
            others = [share for index, share in enumerate(shares) if index not in right]
            answer, shares = len(others), (*others, share_of_right)
        briers.append(option_brier_score(shares, answer))
        nlls.append(option_negative_log_likelihood(shares, answer))
    # A temperature is fitted where one single score is the right one's.
    unique = [row for row in scored if len(right_options(row)) == 1]
    return Confidences(
        values=tuple(values),
        correct=tuple(bool(row.correct) for row in scored),
        video_ids=tuple(map(_video, scored)),
        briers=tuple(briers),
        nlls=tuple(nlls),
        logits=tuple(row.option_log_likelihoods for row in unique),
        outcomes=tuple(right_options(row)[0] for row in unique),
        num_without=sum(bool(row.options) and row.reference is not None for row in predictions)
        - len(scored),
    )


def event_confidences(
    predictions: Sequence[BenchmarkPrediction], fit: TemperatureFit | None = None
) -> Confidences:
    """Printed confidences of predicted events: each event of an answer is an item of its own.

    An event came true if it is, word for word, one of the reference's.

    Args:
        predictions: Of one run; rows that ask for no prediction or have no reference are left out.
        fit: Its temperature divides the confidences' log-odds; of other questions.
    """
    values, correct, videos, num_without = [], [], [], 0
    for row in predictions:
        if row.prompt != FUTURE_PREDICTION_PROMPT or row.options or row.reference is None:
            continue
        # An answer may predict several events, or none that can be read.
        items = () if row.error else parse_predictions(row.output).items
        num_without += not items
        for item in items:
            values.append(item.confidence)
            correct.append(is_event(row, item.event))
            videos.append(_video(row))
    # Came true against did not: two scores an event.
    logits = tuple((log_odds(value), 0.0) for value in values)
    if fit is not None:
        values = [option_probabilities(scores, fit.temperature)[0] for scores in logits]
    return Confidences(
        values=tuple(values),
        correct=tuple(correct),
        video_ids=tuple(videos),
        briers=tuple(brier_scores(values, correct).tolist()) if values else (),
        nlls=tuple(negative_log_likelihoods(values, correct).tolist()) if values else (),
        logits=logits,
        outcomes=tuple(int(not hit) for hit in correct),
        num_without=num_without,
    )


def next_event_confidences(
    predictions: Sequence[BenchmarkPrediction], fit: TemperatureFit | None = None
) -> Confidences:
    """Computed probabilities of the most probable next events, of rows with one true event.

    Args:
        predictions: Of one run; rows that do not ask what happens next, or of which no single event
            is known to be right, are left out.
        fit: See :func:`event_probabilities`; of other questions.
    """
    questions = [row for row in predictions if asks_for_next_event(row)]
    rows = [row for row in questions if has_futures(row)]
    # The likeliest event is what a system says; its probability is how sure it is.
    values, correct, briers, nlls, logits, outcomes = [], [], [], [], [], []
    for row in rows:
        event, shares = next_event(row), event_probabilities(row.futures, fit)
        top, share = top_event(shares)
        values.append(share)
        correct.append(top == event)
        briers.append(event_brier_score(shares, event))
        nlls.append(-math.log(max(shares.get(event, 0.0), CLIP)))
        # No temperature helps an event that the search has not found.
        events, scores = event_scores(row.futures)
        if event in events:
            logits.append(tuple(scores))
            outcomes.append(events.index(event))
    return Confidences(
        values=tuple(values),
        correct=tuple(correct),
        video_ids=tuple(map(_video, rows)),
        briers=tuple(briers),
        nlls=tuple(nlls),
        logits=tuple(logits),
        outcomes=tuple(outcomes),
        num_unlisted=len(rows) - len(outcomes),
        covered=tuple(covered_mass(row.futures) for row in rows),
        num_without=len(questions) - len(rows),
    )


def _video(prediction: BenchmarkPrediction) -> str:
    # Two corpora may use one id for different videos.
    return f"{prediction.corpus}:{prediction.video_id}"
