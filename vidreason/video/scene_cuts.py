"""Scene cuts: the moments at which one shot of a video ends and another begins.

Frames are looked at at a fixed rate and in a small size. Two of them are compared by histograms of
brightness and colour, which motion hardly changes, and tile by tile, whatever the light. A cut is
where

* every frame of the half second before differs in both from every frame of the half second after: a
  flash is over by then, and what was there before it is seen again;
* that step is several times the usual change from frame to frame on either side: of pans, fades and
  fast motion, all frames differ.

So shots of less than half a second count as flashes, and a change of scene that takes less than
about a second (a fade through black, a dissolve whose first step is by far its largest) may count
as a cut. So may light that is switched on so bright that parts of the picture are white.
``tests/video/test_scene_cuts.py`` measures it on drawn videos; there was no real set with cuts
marked by hand to measure it on.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.video.index import VideoIndex
from vidreason.video.reader import GUARDED, VideoReader
from vidreason.video.sampling import frame_indices_at

LOOKS_PER_SECOND = 8.0
"""Frames looked at; a cut is located to within one of these steps."""

_MAX_SIDE = 48  # pixels
# Frames decoded at a time: half a minute. Of files whose frames are found by counting, each piece
# decodes all that is before it: they get larger ones, of up to 28 MB.
_PIECE_FRAMES, _COUNTED_PIECE_FRAMES = 256, 4096
_WINDOW = 4  # frames looked at: half a second
_USUAL_WINDOW, _USUAL_QUANTILE = 8, 0.75  # a second; another cut in it is left out
_LEAST_STEP, _TIMES_USUAL = 0.25, 3.0
_LUMA_BINS, _CHROMA_BINS, _TILES = 16, 6, (8, 12)
_LEAST_CONTRAST = 0.04  # of 1: differences of tiles below it are noise
_NUM_BINS = _LUMA_BINS + 2 * _CHROMA_BINS
_NUM_FEATURES = _NUM_BINS + math.prod(_TILES)


class SceneCut(NamedTuple):
    """A cut, by the frames looked at on both of its sides: it lies between them."""

    last_before_seconds: float
    """Time of the last frame looked at of the shot before."""
    first_after_seconds: float
    """Time of the first frame looked at of the shot after."""


def find_scene_cuts(
    index: VideoIndex,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    *,
    reader: VideoReader = GUARDED,
) -> list[SceneCut]:
    """Find the cuts in a video or in a span of it, in their order.

    The whole span is decoded, half a minute at a time; only two numbers of each frame looked at
    are held.

    Args:
        index: Of the video.
        start_seconds: Start of the span; None for the video's.
        end_seconds: End of the span; None for the video's.
        reader: Decodes the frames. Its limit is for each half minute.

    Raises:
        VideoReadError: A frame cannot be decoded, the time is up, or no frame is in the span.
        ValueError: The span is empty or starts before 0.
    """
    start, end = index.span(start_seconds, end_seconds)
    times = start + np.arange(math.ceil((end - start) * LOOKS_PER_SECOND)) / LOOKS_PER_SECOND
    # Of slow videos each frame is looked at once.
    frames = np.unique(frame_indices_at(index.timestamps, times))
    size = _PIECE_FRAMES if index.packets is not None else _COUNTED_PIECE_FRAMES
    steps = _Steps()
    for first in range(0, len(frames), size):
        piece = frames[first : first + size]
        pictures = reader.read_frames(index, piece, max_side=_MAX_SIDE)
        for part in torch.split(pictures, _PIECE_FRAMES):
            steps.add(_features(part))
    seconds = [float(index.timestamps[frame]) for frame in frames]
    return [SceneCut(seconds[number - 1], seconds[number]) for number in steps.cuts()]


class _Steps:
    """Differences around each frame looked at, gathered from features that come in pieces."""

    def __init__(self) -> None:
        self._features = np.zeros((0, _NUM_FEATURES), dtype=np.float32)  # of frames still needed
        self._num_done = 0  # of these, frames whose differences are known
        self._adjacent: list[float] = []  # from the frame before
        self._lasting: list[float] = []  # smallest of any frame before from any frame after

    def add(self, features: NDArray[np.float32]) -> None:
        """Take the features ``(n, d)`` of the frames that follow."""
        self._features = np.concatenate([self._features, features])
        # The last half second has to wait for what comes after it.
        self._compare_until(max(len(self._features) - _WINDOW, self._num_done))

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot, after the last frame came."""
        self._compare_until(len(self._features))
        adjacent, lasting = np.array(self._adjacent), np.array(self._lasting)
        return [
            int(number)
            for number in np.flatnonzero(lasting > _LEAST_STEP)
            if lasting[number] > _TIMES_USUAL * _usual_step(adjacent, int(number))
        ]

    def _compare_until(self, stop: int) -> None:
        """Compare what is around each frame before number ``stop`` of those still needed."""
        for number in range(self._num_done, stop):
            before = self._features[max(number - _WINDOW, 0) : number]
            after = self._features[number : number + _WINDOW]
            across = _differences(before, after)
            self._adjacent.append(float(across[-1, 0]) if across.size else 0.0)
            self._lasting.append(float(across.min()) if across.size else 0.0)
        first = max(stop - _WINDOW, 0)
        self._features, self._num_done = self._features[first:], stop - first


def _usual_step(adjacent: NDArray[np.float64], number: int) -> float:
    """The usual difference from frame to frame on the livelier side of a frame.

    Its neighbours are left out: coding smears a cut over a frame.
    """
    before = adjacent[max(number - _USUAL_WINDOW, 1) : max(number - 1, 1)]
    after = adjacent[number + 2 : number + _USUAL_WINDOW]
    return max(
        (float(np.quantile(side, _USUAL_QUANTILE)) for side in (before, after) if len(side)),
        default=0.0,
    )


def _features(pictures: Tensor) -> NDArray[np.float32]:
    """Histograms and tiles ``(n, d)`` of ``(n, 3, H, W)`` pictures."""
    red, green, blue = (pictures.float() / 255).unbind(dim=1)  # (n, H, W) each
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # BT.601
    chroma = [(plane - luma + 1) / 2 for plane in (blue, red)]
    # (n, 1, H, W) -> (n, 8 * 12)
    tiles = torch.nn.functional.interpolate(luma[:, None], _TILES, mode="area").flatten(1)
    tiles = tiles - tiles.mean(dim=1, keepdim=True)
    tiles = tiles / tiles.std(dim=1, keepdim=True).clamp(min=_LEAST_CONTRAST)
    histograms = [_histogram(luma, _LUMA_BINS), *(_histogram(p, _CHROMA_BINS) for p in chroma)]
    features: NDArray[np.float32] = torch.cat([*histograms, tiles], dim=1).numpy()
    return features


def _histogram(plane: Tensor, num_bins: int) -> Tensor:
    """Shares of pixels ``(n, bins)``; one between two bins counts for both, by its distances.

    So a little more light changes a histogram a little.
    """
    positions = plane.flatten(1) * (num_bins - 1)  # (n, pixels)
    centres = torch.arange(num_bins, dtype=positions.dtype)
    # (n, pixels, bins) -> (n, bins)
    return (1 - (positions[:, :, None] - centres).abs()).clamp(min=0).mean(dim=1)


def _differences(ones: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Differences ``(n, m)`` from 0 to 1 of n and m frames, given as features."""
    apart = np.abs(ones[:, None] - others[None]).astype(np.float64)  # (n, m, d)
    histograms = np.split(apart[:, :, :_NUM_BINS], [_LUMA_BINS, _LUMA_BINS + _CHROMA_BINS], axis=2)
    # Half the sum is the share of pixels that differ.
    by_histogram = np.maximum.reduce([part.sum(axis=2) / 2 for part in histograms])
    # Tiles of unrelated pictures differ by about one standard deviation.
    by_tiles = np.minimum(apart[:, :, _NUM_BINS:].mean(axis=2), 1.0)
    # Both have to: light changes the first, motion the second.
    differences: NDArray[np.float64] = np.sqrt(by_histogram * by_tiles)
    return differences
