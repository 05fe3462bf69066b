"""Frames of a video for systems that look at pictures, by each system's own rule or a shared one.

Shapes: T frames, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidreason.video.reader import GUARDED, VideoReader
from vidreason.video.sampling import frame_indices_at


@dataclass(frozen=True)
class LastFrames:
    """The rule for frames at a fixed rate up to the end, whatever the video's own rate."""

    num_frames: int
    frames_per_second: float
    share: float = 1.0
    """Part of the video or span, from its start, at whose end the frames are taken."""

    def indices(self, seconds: NDArray[np.float64], end_seconds: float) -> list[int]:
        """Return the frames shown 1, 2, ... steps before the end, the earliest first.

        Args:
            seconds: ``(n,)`` times at which the frames appear, increasing; one or more.
            end_seconds: End of the video or span on the same clock.

        Returns:
            ``num_frames`` indices; the first frame repeats where the video is too short.
        """
        start = float(seconds[0])
        end = start + self.share * (end_seconds - start)
        # Seconds before the end: (num_frames,)
        steps = np.arange(self.num_frames, 0, -1) / self.frames_per_second
        times = np.maximum(end - steps, start)
        return [int(index) for index in frame_indices_at(seconds, times)]


FrameRule = Callable[[int], Sequence[int]] | LastFrames
"""Indices of the frames to look at, from the number of frames of a video or span, 1 or more; or,
for :class:`LastFrames`, from their times."""


class Frames(NamedTuple):
    """Frames of a video or of a span of it."""

    pixels: Tensor
    """``(T, 3, H, W)`` uint8 RGB, upright; T is 0 where nothing is shown."""
    seconds: tuple[float, ...]
    """When each is shown, from the span's start."""
    indices: tuple[int, ...]
    """Which frame of the span each is, from 0."""
    num_frames: int
    """Frames that the span has."""
    duration_seconds: float
    """Length of the span."""

    @property
    def rate(self) -> float:
        """Frames per second of the span, on average."""
        return self.num_frames / self.duration_seconds


class FrameSource(Protocol):
    """Gives the frames of ``(media, start_seconds, end_seconds)`` that a rule asks for."""

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None, rule: FrameRule
    ) -> Frames:
        """Read them.

        Raises:
            VideoReadError: The video cannot be read.
        """
        ...


def middle_frames(num_frames: int) -> Callable[[int], Sequence[int]]:
    """Return the rule for the middle frames of ``num_frames`` equal parts; they may repeat."""

    def rule(available: int) -> list[int]:
        return [
            min(int((part + 0.5) / num_frames * available), available - 1)
            for part in range(num_frames)
        ]

    return rule


class FrameReader:
    """A :class:`FrameSource` that reads files.

    Args:
        reader: Decodes them.
        max_side: Scale frames whose longer side has more pixels to this; None leaves them.
    """

    def __init__(self, reader: VideoReader = GUARDED, max_side: int | None = None) -> None:
        self._reader = reader
        self._max_side = max_side

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None, rule: FrameRule
    ) -> Frames:
        """Read the frames of a span that ``rule`` asks for.

        Raises:
            VideoReadError: The video cannot be read, or the span has no part in it.
        """
        index = self._reader.index(media)
        start, end = index.span(start_seconds, end_seconds)
        # The frame that is shown when the span begins, to the last that appears before its end.
        first = max(int(np.searchsorted(index.timestamps, start, side="right")) - 1, 0)
        last = max(int(np.searchsorted(index.timestamps, end, side="left")), first + 1)
        if isinstance(rule, LastFrames):
            numbers: Sequence[int] = rule.indices(index.timestamps[first:last], end)
        else:
            numbers = rule(last - first)
        chosen = [first + number for number in numbers]
        # Several rules repeat frames of short videos; each is decoded once.
        pixels = self._reader.read_frames(index, chosen, max_side=self._max_side)
        seconds = tuple(max(float(index.timestamps[number]) - start, 0.0) for number in chosen)
        indices = tuple(number - first for number in chosen)
        return Frames(pixels, seconds, indices, last - first, end - start)
