"""The confidences of a run's answers, with what came of them, for calibration.

Two kinds: of a choice, the share of the chosen option when the options' likelihoods per token are
made probabilities; of a predicted event, the number that the model prints beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidreason.evaluation.confidence.temperature import (
    TemperatureFit,
    fit_confidence_temperature,
    fit_temperature,
    option_probabilities,
    scale_confidence,
)
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    has_finite_scores,
    judge,
    right_options,
)
from vidreason.reasoning.predictions import parse_predictions


@dataclass(frozen=True, kw_only=True)
class Confidences:
    """Confidences and outcomes of the answers that have both."""

    values: tuple[float, ...]
    correct: tuple[bool, ...]
    video_ids: tuple[str, ...]
    """Of each answer, for intervals over videos."""
    num_without: int
    """Rows with a reference but without a confidence; a calibration error says nothing of them."""

    def scaled(self, temperature: float) -> "Confidences":
        """Printed confidences at a temperature; of choices, use :func:`choice_confidences`."""
        values = tuple(scale_confidence(value, temperature) for value in self.values)
        return Confidences(
            values=values,
            correct=self.correct,
            video_ids=self.video_ids,
            num_without=self.num_without,
        )


def choice_confidences(
    predictions: Sequence[BenchmarkPrediction], temperature: float = 1.0
) -> Confidences:
    """Confidences of the chosen options, of rows whose options were scored.

    Args:
        predictions: Of one run; rows without options are left out.
        temperature: Of :func:`fit_choice_temperature` on other questions.
    """
    scored = _scored(predictions)
    return Confidences(
        values=tuple(_confidence(own, temperature) for own in scored),
        correct=tuple(bool(own.correct) for own in scored),
        video_ids=tuple(_video(own) for own in scored),
        num_without=sum(bool(own.options) and own.reference is not None for own in predictions)
        - len(scored),
    )


def choice_probabilities(
    predictions: Sequence[BenchmarkPrediction], temperature: float = 1.0
) -> list[tuple[tuple[float, ...], int]]:
    """Of the rows of :func:`choice_confidences`, all options' probabilities and the right one.

    Options with the text of the right one are one option with it: nobody can tell them apart.
    """
    return [
        _as_one(option_probabilities(own.option_log_likelihoods, temperature), right_options(own))
        for own in _scored(predictions)
    ]


def fit_choice_temperature(validation: Sequence[BenchmarkPrediction]) -> TemperatureFit:
    """Fit a temperature on a validation split's predictions.

    Raises:
        ValueError: No row has scored options, each with a finite number, and a reference.
    """
    # Where two options have the right text, no single likelihood is that of the right answer.
    scored = [own for own in _scored(validation) if len(right_options(own)) == 1]
    return fit_temperature(
        [own.option_log_likelihoods for own in scored],
        [own.reference for own in scored if isinstance(own.reference, int)],
    )


def event_confidences(
    predictions: Sequence[BenchmarkPrediction],
    is_right: Callable[[BenchmarkPrediction, str], bool],
) -> Confidences:
    """Printed confidences of predicted events: each event of an answer is an item of its own.

    Args:
        predictions: Of one run; rows without a reference are left out.
        is_right: Whether an event came true, by the row and the event's text: exact for a closed
            vocabulary, else a judge's verdict.
    """
    values, correct, videos, num_without = [], [], [], 0
    for own in predictions:
        if own.options or own.reference is None:
            continue
        items = () if own.error else parse_predictions(own.output).items
        num_without += not items
        for item in items:
            values.append(item.confidence)
            correct.append(is_right(own, item.event))
            videos.append(_video(own))
    return Confidences(
        values=tuple(values),
        correct=tuple(correct),
        video_ids=tuple(videos),
        num_without=num_without,
    )


def fit_event_temperature(validation: Confidences) -> TemperatureFit:
    """Fit a temperature for printed confidences; apply it with :meth:`Confidences.scaled`.

    Raises:
        ValueError: There are no confidences.
    """
    return fit_confidence_temperature(validation.values, validation.correct)


def _scored(predictions: Sequence[BenchmarkPrediction]) -> list[BenchmarkPrediction]:
    """Rows with a confidence: all options have a finite score."""
    return [
        judge(own)
        for own in predictions
        if has_finite_scores(own) and isinstance(own.reference, int) and not own.error
    ]


def _confidence(prediction: BenchmarkPrediction, temperature: float) -> float:
    """The probability of the chosen option, with that of the right one's twins if it is one."""
    shares = option_probabilities(prediction.option_log_likelihoods, temperature)
    twins = right_options(prediction)
    if prediction.parsed in twins:
        return min(sum(shares[index] for index in twins), 1.0)
    return max(shares)


def _as_one(shares: Sequence[float], right: Sequence[int]) -> tuple[tuple[float, ...], int]:
    """Probabilities with those of the options in ``right`` added up, and the place of their sum."""
    if len(right) == 1:
        return tuple(shares), right[0]
    others = [share for index, share in enumerate(shares) if index not in right]
    return (*others, min(sum(shares[index] for index in right), 1.0)), len(others)


def _video(prediction: BenchmarkPrediction) -> str:
    # Two corpora may use one id for different videos.
    return f"{prediction.corpus}:{prediction.video_id}"
