"""Next events with computed probabilities, beside the confidences that an answer prints.

A future's probability is its share among the candidates that were found for a video, by their
likelihoods; the confidence is a number that the model writes (section 3.3.1). Nothing here imports
torch.
"""

from typing import NamedTuple


class Future(NamedTuple):
    """One event that may happen next, with its computed probability."""

    event: str
    """One line, as the model writes it."""
    log_likelihood: float
    """Natural log of the likelihood of the event's text as the first predicted event, summed over
    its tokens, the end of its line included."""
    probability: float
    """Share among the candidates of the video, from 0 to 1; those of all candidates sum to 1."""
    justification: str = ""
    """Why; empty where the model gives no reason or was not asked for one."""
    seconds: float | None = None
    """Expected time of the event after the end of the video; None where it was not asked for."""


def event_time_question(event: str) -> str:
    """Ask when an event will happen; the answer is a number of seconds, such as ``1.5``.

    The prompt is :func:`vidreason.reasoning.prompts.open_ended_prompt` of it.
    """
    return f"In how many seconds will this happen: {event.strip().rstrip('.!?')}?"
