"""Configuration of batches: how requests are divided, and how often results are looked for."""

from dataclasses import dataclass
from math import inf

from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class BatchLimits:
    """Limits of the service; by default OpenAI's."""

    max_requests: int = 50_000
    """Most requests of a batch."""
    max_megabytes: float = 190.0
    """Largest file of a batch, in millions of bytes; OpenAI takes 200."""
    max_open: int = 4
    """Batches that are worked on at a time. It is lowered while a service refuses more."""
    poll_seconds: float = 60.0
    """Wait between looks at the open batches."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            "teacher.batch_limits",
            self,
            max_requests=(1, inf),
            max_megabytes=(ABOVE_0, inf),
            max_open=(1, inf),
            poll_seconds=(ABOVE_0, inf),
        )
