"""Next events with computed probabilities, beside the confidences that an answer prints.

A future's probability is its share among the candidates that were found for a video, by their
likelihoods; the confidence is a number that the model writes (section 3.3.1). Nothing here imports
torch.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vidreason.reasoning.plain_text import normalise_answer

EVENT_SECONDS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Times after the end of a video that an event's expected time is the mean of."""
_NO_EVENT = re.compile(
    r"nothing(?: (?:else|more|new))?(?: (?:will )?(?:happens?|occurs?|changes?|moves?))?"
    r"|no (?:more |further |other )?events?(?: (?:happens?|occurs?|follows?))?"
)


class Future(NamedTuple):
    """One event that may happen next, with its computed probability."""

    event: str
    """One line, as the model writes it; of several that say the same event, the likeliest."""
    log_likelihood: float
    """Natural log of the likelihood of the event's text as the first predicted event, given the
    prompt and the number before it; summed over its tokens, the end of its line included. Of texts
    that say the same event, the likelihoods are added."""
    probability: float
    """Share among the candidates of the video, from 0 to 1; those of all candidates sum to 1."""
    justification: str = ""
    """Why; empty where the model gives no reason or was not asked for one."""
    seconds: float | None = None
    """Expected time of the event after the end of the video; None where it was not asked for, or no
    event is what the future is."""


def event_time_question(event: str) -> str:
    """Ask when an event will happen; :func:`event_time_answer` is the answer.

    The prompt is :func:`vidreason.reasoning.prompts.open_ended_prompt` of it.
    """
    return f"In how many seconds will this happen: {event.strip().rstrip('.!?')}?"


def event_time_answer(seconds: float) -> str:
    """Write the answer to :func:`event_time_question`, such as ``1.5``."""
    return f"{seconds:.1f}"


def is_no_event(text: str) -> bool:
    """Return whether a predicted event says that there is none, such as ``nothing happens``."""
    return _NO_EVENT.fullmatch(normalise_answer(text)) is not None


def merge_candidates(
    log_likelihoods: Mapping[str, float], temperature: float = 1.0
) -> tuple[Future, ...]:
    """Merge candidates that say the same event, and give each event its probability.

    Args:
        log_likelihoods: By candidate; those that are not finite, and texts without a word, are left
            out.
        temperature: Divisor of the events' log-likelihoods.

    Returns:
        The events, the likeliest first.
    """
    by_event: dict[str, list[tuple[float, str]]] = {}
    for text, value in log_likelihoods.items():
        event = normalise_answer(text)
        if event and math.isfinite(value):
            by_event.setdefault(event, []).append((value, text))
    futures = [
        Future(max(texts)[1], min(_log_sum(value for value, _ in texts), 0.0), 0.0)
        for texts in by_event.values()
    ]
    futures.sort(key=lambda future: (-future.log_likelihood, future.event))
    return with_temperature(futures, temperature)


def with_temperature(futures: Iterable[Future], temperature: float) -> tuple[Future, ...]:
    """Return a video's futures with the probabilities that a temperature gives them."""
    futures = tuple(futures)
    if not futures:
        return ()
    scaled = [future.log_likelihood / temperature for future in futures]
    total = _log_sum(scaled)
    return tuple(
        future._replace(probability=math.exp(value - total))
        for future, value in zip(futures, scaled, strict=True)
    )


def covered_mass(futures: Iterable[Future]) -> float:
    """Return the probability, from 0 to 1, that the model's first event is one of ``futures``."""
    return min(sum(math.exp(future.log_likelihood) for future in futures), 1.0)


def _log_sum(values: Iterable[float]) -> float:
    """The natural log of the sum of exponentials."""
    values = list(values)
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))
