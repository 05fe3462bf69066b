"""Controls on frames: the same questions to a system that is shown less, or something else.

They are those of :mod:`vidreason.evaluation.controls`, for systems that look at pictures. A video
must be readable under every control.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from vidreason.baselines.frames import FrameRule, Frames, FrameSource, LastFrames
from vidreason.evaluation.config import Control
from vidreason.evaluation.controls import (
    other_order,
    read_stand_in,
    span_generator,
    stand_in_spans,
)
from vidreason.example import Example, MediaSpan


def controlled_frames(
    source: FrameSource, examples: Sequence[Example], control: Control, seed: int = 0
) -> FrameSource:
    """Return the source of frames that a run under ``control`` reads.

    * ``none``: the video's own frames.
    * ``half_frames``: those that the system's rule takes of the first half.
    * ``single_frame``: the middle one.
    * ``blind``: none.
    * ``shuffled_frames``: the same pictures in another order, at the times of before.
    * ``shuffled``: those of another video of ``examples`` that can be read.
    * ``random``: pictures of noise.

    Args:
        source: The true source.
        examples: All questions of the run; ``shuffled`` draws from their videos.
        control: Which control.
        seed: Seed of what is drawn; the same span always gives the same frames.

    Raises:
        ValueError: The control cannot be made; see
            :func:`vidreason.evaluation.controls.why_not_made`.
    """
    match control:
        case "none":
            return source
        case "shuffled":
            return _StandIn(source, stand_in_spans(examples, seed))
        case "half_frames" | "single_frame" | "blind":
            return _OtherRule(source, _RULES[control])
    return _Changed(source, _CHANGES[control], seed)


@dataclass(frozen=True)
class _StandIn:
    source: FrameSource
    stand_ins: dict[MediaSpan, MediaSpan]

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None, rule: FrameRule
    ) -> Frames:
        span = (media, start_seconds, end_seconds)
        return read_stand_in(self.stand_ins, span, lambda one: self.source(*one, rule))


@dataclass(frozen=True)
class _OtherRule:
    source: FrameSource
    change: Callable[[FrameRule], FrameRule]

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None, rule: FrameRule
    ) -> Frames:
        return self.source(media, start_seconds, end_seconds, self.change(rule))


@dataclass(frozen=True)
class _Changed:
    source: FrameSource
    change: Callable[[Frames, torch.Generator], Frames]
    seed: int

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None, rule: FrameRule
    ) -> Frames:
        frames = self.source(media, start_seconds, end_seconds, rule)
        generator = span_generator(self.seed, (media, start_seconds, end_seconds))
        return self.change(frames, generator)


def _of_first_half(rule: FrameRule) -> FrameRule:
    if isinstance(rule, LastFrames):
        # Its frames count back from an end, so that the end moves.
        return replace(rule, share=rule.share / 2)
    # The rule sees a video of half as many frames.
    return lambda available: rule(max(available // 2, 1))


def _middle_frame(rule: FrameRule) -> FrameRule:
    return lambda available: [available // 2]


def _no_frame(rule: FrameRule) -> FrameRule:
    return lambda available: []


def _in_another_order(frames: Frames, generator: torch.Generator) -> Frames:
    return frames._replace(pixels=frames.pixels[other_order(len(frames.pixels), generator)])


def _noise(frames: Frames, generator: torch.Generator) -> Frames:
    noise = torch.randint(0, 256, frames.pixels.shape, dtype=torch.uint8, generator=generator)
    return frames._replace(pixels=noise)


_RULES: dict[Control, Callable[[FrameRule], FrameRule]] = {
    "half_frames": _of_first_half,
    "single_frame": _middle_frame,
    "blind": _no_frame,
}
_CHANGES: dict[Control, Callable[[Frames, torch.Generator], Frames]] = {
    "shuffled_frames": _in_another_order,
    "random": _noise,
}
