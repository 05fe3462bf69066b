"""Next labels as texts: computed futures, and the form of a prediction."""

from collections.abc import Sequence

from vidreason.baselines.anticipation.anticipator import NextLabels
from vidreason.baselines.anticipation.segments import FRAMES_PER_SECOND, Segment
from vidreason.reasoning.futures import Future, merge_candidates
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, format_predictions
from vidreason.reasoning.reasoner_config import FuturesConfig

_CONFIDENCE_DIGITS = 3  # after the point


def label_text(label: str) -> str:
    """Return a label in words: ``pour_milk`` is ``pour milk``."""
    return " ".join(label.replace("_", " ").split())


def next_futures(
    following: NextLabels,
    labels: Sequence[str],
    observed: Sequence[Segment],
    config: FuturesConfig,
) -> tuple[Future, ...]:
    """Return the likeliest next events with their probabilities, and times where known.

    Args:
        following: What the network says.
        labels: Its labels.
        observed: What came before.
        config: How many events, and the temperature.
    """
    ordered = following.log_probabilities.argsort(descending=True).tolist()
    kept = ordered[: config.num_candidates]
    # Labels that say the same in words are one event.
    candidates: dict[str, float] = {}
    number_of = {}
    for label in kept:
        text = label_text(labels[label])
        if text not in candidates:
            candidates[text] = float(following.log_probabilities[label])
            number_of[text] = label
    return tuple(
        future._replace(
            seconds=_seconds(following.frames_until.get(number_of[future.event])),
            justification=_justification(following, number_of[future.event], observed),
        )
        for future in merge_candidates(candidates, config.temperature)
    )


def prediction_text(futures: Sequence[Future]) -> str:
    """Write the first three as a prediction, each with its probability as the confidence."""
    predictions = []
    for future in futures[:MAX_PREDICTIONS]:
        confidence = round(future.probability, _CONFIDENCE_DIGITS)
        predictions.append(Prediction(future.event, future.justification, confidence))
    return format_predictions(predictions)


def _justification(following: NextLabels, label: int, observed: Sequence[Segment]) -> str:
    """Say what came before, when it begins and for how long: all that the network knows."""
    parts = [f"after {label_text(observed[-1].label)}"] if observed else []
    until = _seconds(following.frames_until.get(label))
    if until is not None:
        parts.append(f"in about {until:.1f} s")
    lasting = _seconds(following.frames_lasting)
    # The network gives one length, which is that of the likeliest label.
    if lasting is not None and label == int(following.log_probabilities.argmax()):
        parts.append(f"for about {lasting:.1f} s")
    return ", ".join(parts)


def _seconds(frames: float | None) -> float | None:
    return None if frames is None else frames / FRAMES_PER_SECOND
