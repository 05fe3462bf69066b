"""Configuration of a long run against an endpoint: rates, retries, prices and the budget."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class PriceConfig:
    """Prices of a service, for the estimate beforehand, the cost so far and the budget."""

    currency: str = "USD"
    """Name of the money, for texts."""
    per_million_prompt_tokens: float | None = None
    """Money for a million tokens of prompts, pictures included; None for a model that costs
    nothing, such as one on a machine of one's own."""
    per_million_generated_tokens: float | None = None
    """Money for a million tokens of answers; None for nothing."""
    per_million_cached_tokens: float | None = None
    """Money for a million tokens of prompts that the service says it had cached; None for those of
    other prompts."""
    per_image: float = 0.0
    """Money for each picture on top of its tokens."""
    batch_discount: float = 0.0
    """Part of the price that the batch API leaves out, such as 0.5."""
    image_tokens: Literal["patches_28", "patches_32", "tiles_512", "fixed"] = "patches_28"
    """Rule that estimates a picture's tokens. ``patches_28``: one for each 28 x 28 pixels, as
    Qwen2-VL and Qwen2.5-VL (patches of 14, merged 2 x 2); ``patches_32``: one for each 32 x 32, as
    Qwen3-VL and OpenAI's smaller models since GPT-4.1; ``tiles_512``: 85 and 170 for each tile of
    512 x 512, as GPT-4o; ``fixed``: ``tokens_per_image``."""
    tokens_per_image: int = 0
    """Tokens of a picture, for ``fixed``; the other rules leave it out of account."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: A field is out of range, or the rule has no number.
        """
        check_ranges(
            "running.prices",
            self,
            per_million_prompt_tokens=(0, inf),
            per_million_generated_tokens=(0, inf),
            per_million_cached_tokens=(0, inf),
            per_image=(0, inf),
            batch_discount=(0, 1),
            tokens_per_image=(0, inf),
        )
        if self.image_tokens == "fixed" and not self.tokens_per_image:
            raise ValueError(
                "running.prices.image_tokens is fixed and tokens_per_image is 0; say how many "
                "tokens a picture has"
            )

    @property
    def are_given(self) -> bool:
        """True if anything costs something."""
        per_token = self.per_million_prompt_tokens, self.per_million_generated_tokens
        return any(per_token) or self.per_image > 0


@dataclass(kw_only=True)
class RunningConfig:
    """Limits of a run."""

    num_parallel: int = 8
    """Requests at a time."""
    num_decoders: int = 2
    """Videos that are decoded at a time, while requests wait for replies."""
    decode_ahead: int = 8
    """Most clips that are decoded and not yet sent, each some 0.5 MB."""
    decode_timeout_seconds: float = 60.0
    """Longest time for a clip's frames; 0 for no limit."""
    requests_per_minute: float | None = None
    """Rate limit of the endpoint, each try counted; None for none."""
    tokens_per_minute: float | None = None
    """Rate limit of the endpoint, of prompts and answers together; None for none."""
    max_consecutive_failures: int = 20
    """Requests in a row that may fail in all their tries before the run stops: it is an outage
    then, and not the clips. Before a run has any reply, fewer do."""
    max_unreadable_fraction: float = 0.05
    """Part of the clips whose videos may be unreadable before the run stops."""
    max_requests: int | None = None
    """Most requests of all starts together, each try counted; None for no limit."""
    max_cost: float | None = None
    """Most money of all starts together, by ``prices``: the run stops before the request that may
    exceed it. None for no limit."""
    max_hours: float | None = None
    """Longest time of one start; None for no limit."""
    prices: PriceConfig = field(default_factory=PriceConfig)

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: A field is out of range, or there is a limit of money without prices.
        """
        check_ranges(
            "running",
            self,
            num_parallel=(1, 1024),
            num_decoders=(1, 256),
            decode_ahead=(1, inf),
            decode_timeout_seconds=(0, inf),
            requests_per_minute=(ABOVE_0, inf),
            tokens_per_minute=(ABOVE_0, inf),
            max_consecutive_failures=(1, inf),
            max_unreadable_fraction=(0, 1),
            max_requests=(0, inf),
            max_cost=(0, inf),
            max_hours=(ABOVE_0, inf),
        )
        if self.max_cost is not None and not self.prices.are_given:
            raise ValueError(
                f"running.max_cost is {self.max_cost} and running.prices has none; set "
                "running.prices.per_million_prompt_tokens and per_million_generated_tokens from "
                "the service's price list"
            )
