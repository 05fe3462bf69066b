"""Control runs, in which the visual tokens are replaced: what accuracy remains is not the video's.

A control is a source of visual tokens around the true source, so that everything else of the
evaluation is the same.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from vidreason.example import Example
from vidreason.perception.visual_tokens import OBJECT_TOKEN, TokenSource, VisualTokens

Control = Literal["none", "blind", "random", "shuffled"]

Span = tuple[str, float | None, float | None]


def controlled_source(
    source: TokenSource, examples: Sequence[Example], control: Control, seed: int = 0
) -> TokenSource:
    """The source that a run under ``control`` reads.

    * ``none``: the video's own tokens.
    * ``blind``: no visual token at all.
    * ``random``: as many tokens with Gaussian features of the same mean and standard deviation, and
      random boxes and areas for objects, because places tell what happened too. The number of
      objects and the times of clips and key frames stay.
    * ``shuffled``: the tokens of another video of ``examples``, never its own.

    Args:
        source: The true source.
        examples: What will be asked for; ``shuffled`` draws from their videos.
        control: Which control.
        seed: Seed of ``random`` and ``shuffled``; the same span always gives the same tokens.

    Raises:
        ValueError: ``shuffled`` with fewer than two videos.
    """
    match control:
        case "none":
            return source
        case "blind":
            return BlindSource(source)
        case "random":
            return RandomSource(source, seed)
        case "shuffled":
            return ShuffledSource(source, _derangement(examples, seed))


@dataclass(frozen=True)
class BlindSource:
    """No visual tokens."""

    source: TokenSource

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """The video without tokens; it must be readable, as under the other controls."""
        return self.source(media, start_seconds, end_seconds).without_tokens()


@dataclass(frozen=True)
class RandomSource:
    """Noise of the same size and scale."""

    source: TokenSource
    seed: int

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """Random tokens for this span, the same at every call."""
        tokens = self.source(media, start_seconds, end_seconds)
        if len(tokens) == 0:
            return tokens
        name = f"{self.seed}|{media}|{start_seconds}|{end_seconds}".encode()
        generator = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1
        )
        features = tokens.features.float()
        noise = torch.randn(features.shape, generator=generator)
        noise = noise * features.std(correction=0) + features.mean()
        is_object = tokens.kinds == OBJECT_TOKEN
        corners = torch.rand(len(tokens), 2, 2, generator=generator).sort(dim=1).values
        boxes = torch.where(is_object[:, None], corners.flatten(1), tokens.boxes)
        sides = corners[:, 1] - corners[:, 0]
        areas = torch.where(is_object, sides.prod(dim=1), tokens.areas)
        return replace(
            tokens,
            features=noise.to(tokens.features.dtype),
            boxes=boxes,
            areas=areas,
            masks=(None,) * len(tokens),
        )


@dataclass(frozen=True)
class ShuffledSource:
    """Another video's tokens."""

    source: TokenSource
    other: dict[str, Span]
    """For each video file, a span of another one."""

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """The tokens of the video that stands in for ``media``."""
        return self.source(*self.other[media])


def _derangement(examples: Sequence[Example], seed: int) -> dict[str, Span]:
    """Each video's stand-in: the next one in a random circle of all videos, so none is its own."""
    spans: dict[str, Span] = {}
    for example in examples:
        spans.setdefault(example.media, (example.media, example.start_seconds, example.end_seconds))
    if len(spans) < 2:
        raise ValueError(
            f"the control 'shuffled' needs at least two videos to exchange, found {len(spans)}"
        )
    media = sorted(spans)
    circle = [media[index] for index in np.random.default_rng(seed).permutation(len(media))]
    return {
        current: spans[following]
        for current, following in zip(circle, [*circle[1:], circle[0]], strict=True)
    }
