"""Configuration of a long run against an endpoint: rates, retries, prices and the budget."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class RunningConfig:
    """Limits of a run."""

    num_parallel: int = 8
    """Requests at a time."""
