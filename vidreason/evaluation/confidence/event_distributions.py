"""Computed distributions over next events, beside the event that came and the true distribution.

A distribution is a mapping from events, as :func:`normalise_answer` writes them, to probabilities,
the most probable first. The rest up to 1 belongs to other events, which are not known.
"""

import math
from collections.abc import Mapping, Sequence

from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.confidence.temperature import TemperatureFit, option_probabilities
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.futures import Future, covered_mass
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

Distribution = Mapping[str, float]


def asks_for_next_event(prediction: BenchmarkPrediction) -> bool:
    """Tell whether a row's question is what happens next, and one event is known to be right."""
    reference = prediction.reference
    one = isinstance(reference, tuple) and len(reference) == 1 and isinstance(reference[0], str)
    return one and (prediction.prompt == FUTURE_PREDICTION_PROMPT or bool(prediction.futures))


def next_event(prediction: BenchmarkPrediction) -> str:
    """The event that came next, of a row of which :func:`asks_for_next_event` is true."""
    assert isinstance(prediction.reference, tuple)
    return normalise_answer(str(prediction.reference[0]))


def has_futures(prediction: BenchmarkPrediction) -> bool:
    """Tell whether a system computed a distribution for a row."""
    return bool(prediction.futures) and not prediction.error


def top_event(distribution: Distribution) -> tuple[str, float]:
    """The most probable event with its probability; the first of several."""
    return next(iter(distribution.items()))


def event_probabilities(
    futures: Sequence[Future], fit: TemperatureFit | None = None
) -> dict[str, float]:
    """The distribution of computed futures; one event said in several ways is one.

    Args:
        futures: Of one row; there may be none.
        fit: Its temperature divides the events' log-likelihoods before their shares are taken, as
            ``decoding.futures.temperature`` does, and they sum to its ``listed_of`` them: the rest
            is for events that the search misses. None for the probabilities as the system gives
            them.
    """
    if fit is None:
        shares: dict[str, float] = {}
        for future in futures:
            event = normalise_answer(future.event)
            shares[event] = min(shares.get(event, 0.0) + future.probability, 1.0)
    else:
        events, scores = event_scores(futures)
        parts = option_probabilities(scores, fit.temperature)
        listed = fit.listed_of(covered_mass(futures))
        shares = {event: listed * part for event, part in zip(events, parts, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def event_scores(futures: Sequence[Future]) -> tuple[list[str], list[float]]:
    """The events of computed futures, each once, and the natural log-likelihood of each."""
    by_event: dict[str, list[float]] = {}
    for future in futures:
        by_event.setdefault(normalise_answer(future.event), []).append(future.log_likelihood)
    return list(by_event), [_log_sum(values) for values in by_event.values()]


def event_brier_score(distribution: Distribution, event: str) -> float:
    """Brier score of a distribution, from 0 to 2: squared differences summed over all events.

    The events are those of the distribution, all others as one, and ``event``. Where it is not in
    the distribution it was given nothing: whoever names no event cannot have a good score.

    Args:
        distribution: Of the next event.
        event: The one that came.
    """
    # What is left is one more event: the one that came, if it is not listed, gets nothing of it.
    others = max(1.0 - math.fsum(distribution.values()), 0.0)
    squares = [(share - (name == event)) ** 2 for name, share in distribution.items()]
    return min(math.fsum([*squares, others**2, float(event not in distribution)]), 2.0)


def total_variation(first: Distribution, second: Distribution) -> float:
    """Total-variation distance of two distributions, from 0 to 1.

    Events that are not in a distribution have probability 0 there, and what is left of 1 agrees
    with nothing: the distance is at most this.
    """
    differences = [
        abs(first.get(event, 0.0) - second.get(event, 0.0))
        for event in dict.fromkeys([*first, *second])
    ]
    # Rests may be of different events: they count as a difference in full.
    rests = [max(1.0 - math.fsum(one.values()), 0.0) for one in (first, second)]
    return min(math.fsum([*differences, *rests]) / 2, 1.0)


def true_probabilities(prediction: BenchmarkPrediction) -> dict[str, float]:
    """The true distribution of a row; empty where it is not known."""
    shares: dict[str, float] = {}
    for future in prediction.true_futures:
        event = normalise_answer(future.text)
        shares[event] = shares.get(event, 0.0) + future.probability
    total = math.fsum(shares.values())
    # Rounded probabilities need not sum to 1.
    return {event: share / total for event, share in shares.items()} if total else {}


def _log_sum(values: Sequence[float]) -> float:
    """Logarithm of the sum of exponentials."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
