"""Configuration of the quality gate."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class GateConfig:
    """Bounds that an answer has to keep to."""

    max_steps: int = 12
    """Most steps of an explanation."""
