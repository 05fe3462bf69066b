"""Prices of requests: estimates before a reply, costs after it, and the whole job beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

from vidreason.teacher.protocol import TeacherRequest
from vidreason.teacher.running_config import PriceConfig, RunningConfig

CHARS_PER_TOKEN = 4
"""English text; OpenAI's help pages give the same rule of thumb."""
_MILLION = 1_000_000


class Usage(NamedTuple):
    """Things that are paid for."""

    num_requests: float = 0
    num_images: float = 0
    num_prompt_tokens: float = 0
    """Tokens of pictures and text, cached ones included."""
    num_generated_tokens: float = 0
    num_cached_tokens: float = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        return Usage(*(one + two for one, two in zip(self, other, strict=True)))

    def times(self, factor: float) -> "Usage":
        """Return ``factor`` times as much."""
        return Usage(*(value * factor for value in self))


def money(prices: PriceConfig, usage: Usage, *, is_batch: bool = False) -> float:
    """Return what usage costs.

    Args:
        prices: The service's.
        usage: The sum over requests.
        is_batch: Whether they go through the batch API, which has a discount.
    """
    per_prompt = prices.per_million_prompt_tokens or 0.0
    per_cached = prices.per_million_cached_tokens
    per_cached = per_prompt if per_cached is None else per_cached
    # Cached tokens are among those of the prompt, at a price of their own.
    cost = (
        per_prompt * (usage.num_prompt_tokens - usage.num_cached_tokens)
        + per_cached * usage.num_cached_tokens
        + (prices.per_million_generated_tokens or 0.0) * usage.num_generated_tokens
    ) / _MILLION + prices.per_image * usage.num_images
    return cost * (1 - prices.batch_discount) if is_batch else cost


def estimated_usage(prices: PriceConfig, request: TeacherRequest, max_new_tokens: int) -> Usage:
    """Return the most that a request is thought to use: its answer as long as it may be.

    Args:
        prices: With the rule for pictures. A video counts by the pixels of its frames together, as
            if they were one picture.
        request: The request.
        max_new_tokens: Limit of the answer.
    """
    tokens = 0
    if request.num_image_pixels:
        num_pictures = max(request.num_images, 1)
        tokens = num_pictures * picture_tokens(prices, request.num_image_pixels / num_pictures)
    text = ceil(request.num_text_chars / CHARS_PER_TOKEN)
    return Usage(1, request.num_images, tokens + text, max_new_tokens)


def picture_tokens(prices: PriceConfig, num_pixels: float) -> int:
    """Return the tokens of one picture by the configured rule.

    Sources: Qwen2-VL's processor has patches of 14 pixels, merged 2 x 2 (its
    ``preprocessor_config.json``); Qwen3-VL's has patches of 16; OpenAI's guide to images gives
    patches of 32 and tiles of 512. Sides are not known here: a picture counts as 16:9.

    Args:
        prices: With the rule.
        num_pixels: Of the picture, above 0.
    """
    width = sqrt(num_pixels * 16 / 9)
    height = num_pixels / width
    match prices.image_tokens:
        case "fixed":
            return prices.tokens_per_image
        case "patches_28":
            return ceil(width / 28) * ceil(height / 28)
        case "patches_32":
            return ceil(width / 32) * ceil(height / 32)
    # It is made to fit into 2048 x 2048, then its shorter side is at most 768.
    scale = min(2048 / width, 1.0)
    scale *= min(768 / (height * scale), 1.0)
    return 85 + 170 * ceil(width * scale / 512) * ceil(height * scale / 512)


@dataclass(frozen=True, kw_only=True)
class JobEstimate:
    """A job's price before it is begun."""

    usage: Usage
    """Tokens of all requests, with answers as long as they may be."""
    currency: str
    cost: float
    """Cost of ``usage``."""
    minutes_at_rate_limits: float | None
    """Shortest time that the rate limits allow; None without any."""

    def lines(self) -> list[str]:
        """Return it in words."""
        usage = self.usage
        lines = [
            f"requests: {usage.num_requests:,.0f}, with {usage.num_images:,.0f} pictures",
            f"tokens: about {usage.num_prompt_tokens:,.0f} of prompts, and at most "
            f"{usage.num_generated_tokens:,.0f} of answers",
            f"cost: at most about {self.cost:,.2f} {self.currency}"
            if self.cost
            else "cost: none (running.prices has no prices)",
        ]
        if self.minutes_at_rate_limits is not None:
            lines.append(
                f"time: {self.minutes_at_rate_limits:,.1f} minutes or more at the rate limits"
            )
        return lines


def estimate_job(
    config: RunningConfig, samples: Sequence[Usage], num_requests: int, *, is_batch: bool = False
) -> JobEstimate:
    """Price a job by the requests of some of its clips.

    Args:
        config: Prices and rate limits.
        samples: :func:`estimated_usage` of some clips, one or more, spread over the job.
        num_requests: Clips that are asked about.
        is_batch: Whether they go through the batch API, which has no rate limits of this kind.
    """
    total = Usage()
    for usage in samples:
        total = total.plus(usage)
    job = total.times(num_requests / len(samples))
    # Both limits hold, so that the tighter one decides.
    minutes = []
    if config.requests_per_minute is not None:
        minutes.append(job.num_requests / config.requests_per_minute)
    if config.tokens_per_minute is not None:
        num_tokens = job.num_prompt_tokens + job.num_generated_tokens
        minutes.append(num_tokens / config.tokens_per_minute)
    return JobEstimate(
        usage=job,
        currency=config.prices.currency,
        cost=money(config.prices, job, is_batch=is_batch),
        minutes_at_rate_limits=max(minutes) if minutes and not is_batch else None,
    )
