"""The protocol of a verifier: it looks again whether a video shows what a sentence claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence, and the span in which it is said to be visible."""

    text: str
    media: str
    """Path or URL of the video."""
    start_seconds: float | None = None
    """Start of the span, or None for the start of the video."""
    end_seconds: float | None = None
    """End of the span, or None for the end of the video."""


class Support(NamedTuple):
    """The verifier's answer to one claim."""

    score: float
    """Probability, from 0 to 1, that the span shows it."""
    is_supported: bool
    """True if the score reaches the verifier's threshold."""


class Verifier(Protocol):
    """A model that is asked about single claims."""

    verifier_id: str
    """Names the model, its threshold and everything else that can change its answers."""

    def verify(self, claims: Sequence[Claim]) -> list[Support]:
        """Look at each claim's span; one answer a claim, in their order.

        Raises:
            VideoReadError: A video cannot be read.
        """
        ...
