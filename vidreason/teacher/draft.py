"""A teacher's answer as data: the steps of an explanation, and what may happen next."""

from dataclasses import dataclass
from typing import NamedTuple

from vidreason.reasoning.outcomes import Outcome
from vidreason.reasoning.predictions import Prediction


class Step(NamedTuple):
    """One step of a causal explanation."""

    text: str
    start_seconds: float | None = None
    """When it begins, from the start of the clip; None where the answer does not say."""
    end_seconds: float | None = None
    """When it ends, from the start of the clip; None where the answer does not say."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An answer that could be read; the quality gate decides whether it becomes a row."""

    steps: tuple[Step, ...] = ()
    """In the order of the answer."""
    predictions: tuple[Prediction, ...] = ()
    """Up to three, the most likely first. A confidence of NaN stands for none: such a prediction
    is the only one."""
    outcome: Outcome | None = None
    """Event that really came next, where the source knows it; no teacher does."""
