"""Perceptual hashes: find copies after re-encoding, scaling, mirroring or trimming at the ends.

A frame's hash is the signs of the lowest frequencies of a 32 x 32 thumbnail (its DCT without the
means): 12 x 12 of its brightness and 6 x 6 of each of its two colour differences, 213 bits. The
mirrored frame's hash follows from it: mirroring changes the sign of every odd horizontal frequency.
A video's hash is those of its frames on a fixed grid of times, so that two videos are compared at
every shift in time.

Measured on microworld videos, which resemble each other more than real ones do: copies of 30 test
videos, looked up among those 30 (``tests/video/test_planted_leaks.py``, slow, repeats it):

=============================== ===== ======== =====================
copy                            found farthest others taken for it
=============================== ===== ======== =====================
re-encoded (crf 36)             30    0.056    0
re-encoded at half size         30    0.073    0
mirrored                        30    0.037    0
start cut by a quarter          30    0.041    0
end cut by a quarter            30    0.036    0
half of it cut, at both ends    30    0.041    0
three quarters cut              30    0.051    0
start cut, mirrored, half size  30    0.087    0
=============================== ===== ======== =====================

Of the same copies of 5 real videos all are found but those with half of it cut or more, of which 2
are: the other 3 then last half a second, too short to compare. No one of 60 training videos and 5
real ones is taken for one of the 30, and none of 20 for a real one. Of 19,200 pairs of different
ones (240 x 80, mirrored too) the nearest differ in 0.21 of the bits, and of 80 among themselves one
pair of nearly equal scenes counts as one video. Of the real ones, the nearest differ in 0.33; a
copy of one that lasts a second was missed (0.21). Cropping, letter boxes, changed speed and lost
colour are not recognised.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.video.limits import LARGE_SIDE
from vidreason.video.reader import DIRECT, VideoReader

SAME_VIDEO_DISTANCE = 0.2
"""Share of differing bits up to which two videos count as one."""

SMALLEST_STEP_SECONDS = 0.25
MAX_FRAMES = 128
"""Longer videos are looked at in steps twice, four times, ... as large."""

MIN_COMPARED_FRAMES = 3
MIN_OVERLAP = 0.5
"""Share of the shorter video that has to lie within the longer one."""

_THUMBNAIL = 32  # pixels of a side, from which the frequencies are taken
_LUMA_FREQUENCIES, _CHROMA_FREQUENCIES = 12, 6
_NUM_BITS = _LUMA_FREQUENCIES**2 - 1 + 2 * (_CHROMA_FREQUENCIES**2 - 1)
_NUM_WORDS = math.ceil(_NUM_BITS / 64)
# Standard deviations, of 255. Below the first a frame is of one brightness and its hash is noise;
# below the second a frame has no colour, and those bits are left 0.
_FLAT, _GRAY = 3.0, 1.0
# Of a copy's frames, some differ less than the average: these find the candidates.
_NUM_PROBES, _PROBE_BITS = 16, 42


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoHash:
    """Perceptual hash of a video, from n frames."""

    step_seconds: float
    """Time between two frames: ``SMALLEST_STEP_SECONDS`` times a power of two."""
    frames: NDArray[np.uint64]
    """``(n, 4)`` hashes: 213 bits in four words."""
    is_flat: NDArray[np.bool_]
    """``(n,)`` whether a frame is of one colour: it is not compared."""

    @property
    def num_compared(self) -> int:
        """Frames that say something."""
        return int((~self.is_flat).sum())

    @property
    def mirrored(self) -> "VideoHash":
        """The hash of the video flipped left to right."""
        return VideoHash(
            step_seconds=self.step_seconds, frames=self.frames ^ _MIRROR, is_flat=self.is_flat
        )

    def every(self, stride: int, first: int) -> "VideoHash":
        """Each ``stride``-th frame, from number ``first`` on."""
        return VideoHash(
            step_seconds=self.step_seconds * stride,
            frames=self.frames[first::stride],
            is_flat=self.is_flat[first::stride],
        )


def hash_frames(frames: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hash pictures.

    Args:
        frames: ``(n, 3, H, W)`` uint8 RGB.

    Returns:
        ``(n, 4)`` hashes, and ``(n,)`` whether the picture is of one brightness.
    """
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # BT.601 luma
    pictures = frames.float()
    luma = (pictures * weights).sum(dim=1, keepdim=True)
    # Brightness, blue and red without it: (n, 3, H, W)
    planes = torch.cat([luma, pictures[:, 2:] - luma, pictures[:, :1] - luma], dim=1)
    size = (_THUMBNAIL, _THUMBNAIL)
    small = torch.nn.functional.interpolate(planes, size, mode="area").numpy()
    spread = small.std(axis=(2, 3))  # (n, 3)
    coefficients = _DCT @ small @ _DCT.T  # (n, 3, frequencies down, frequencies across)
    positive = (coefficients > 0) & (spread > _GRAY)[:, :, None, None]
    bits = np.concatenate([_lowest(positive[:, plane], plane) for plane in range(3)], axis=1)
    return _pack(bits), spread[:, 0] < _FLAT


def hash_video(
    media: str,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    *,
    reader: VideoReader = DIRECT,
) -> VideoHash:
    """Hash a video, or a span of it.

    Raises:
        VideoReadError: The video cannot be read, not in the time of ``reader``, or ends before the
            span.
        ValueError: The span is empty.
    """
    index = reader.index(media)
    start, end = index.span(start_seconds, end_seconds)
    steps = (end - start) / SMALLEST_STEP_SECONDS
    doublings = max(math.ceil(math.log2(max(steps / MAX_FRAMES, 1.0))), 0)
    step = SMALLEST_STEP_SECONDS * 2**doublings
    times = np.arange(start + step / 2, end, step)
    if len(times) == 0:
        times = np.array([(start + end) / 2])
    frames, is_flat = hash_frames(reader.read_frames_at(index, times, max_side=LARGE_SIDE))
    return VideoHash(step_seconds=step, frames=frames, is_flat=is_flat)


def distance(one: VideoHash, other: VideoHash) -> float:
    """Share of differing bits at the best shift in time, mirrored or not.

    1.0 where there is too little to compare: fewer than ``MIN_COMPARED_FRAMES`` frames that are not
    flat.
    """
    fine, coarse = sorted((one, other), key=lambda video: video.step_seconds)
    stride = round(coarse.step_seconds / fine.step_seconds)
    best = 1.0
    for first in range(stride):
        part = fine.every(stride, first)
        for variant in (part, part.mirrored):
            best = min(best, _best_shift(variant, coarse))
    return best


def _best_shift(one: VideoHash, other: VideoHash) -> float:
    shorter = min(one.num_compared, other.num_compared)
    needed = max(MIN_COMPARED_FRAMES, math.ceil(MIN_OVERLAP * shorter))
    if shorter < MIN_COMPARED_FRAMES:
        return 1.0
    # (n, 1, 4) and (1, m, 4) words -> (n, m) differing bits
    bits = _num_different(one.frames[:, None], other.frames[None, :]).astype(np.float64)
    counts = ~(one.is_flat[:, None] | other.is_flat[None, :])  # (n, m)
    # Pairs of frames at one shift lie on one diagonal.
    rows, columns = np.indices(bits.shape)
    shifts = (columns - rows + len(one.frames) - 1).ravel()
    compared = np.bincount(shifts, weights=counts.ravel())
    differing = np.bincount(shifts, weights=(bits * counts).ravel())
    enough = compared >= needed
    if not enough.any():
        return 1.0
    return float((differing[enough] / compared[enough]).min()) / _NUM_BITS


class VideoHashIndex:
    """Finds the videos of a set that look like a given one; the set is held in memory."""

    def __init__(self) -> None:
        self._videos: list[tuple[Hashable, VideoHash]] = []
        self._stacked: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._videos)

    def add(self, name: Hashable, video: VideoHash) -> None:
        """Put a video into the set."""
        self._videos.append((name, video))
        self._stacked = None

    def find(
        self, video: VideoHash, max_distance: float = SAME_VIDEO_DISTANCE
    ) -> list[tuple[Hashable, float]]:
        """Names and distances of the videos within ``max_distance``, the nearest first."""
        matches = []
        for number in self._candidates(video):
            name, other = self._videos[number]
            apart = distance(video, other)
            if apart <= max_distance:
                matches.append((name, apart))
        return sorted(matches, key=lambda pair: pair[1])

    def _candidates(self, video: VideoHash) -> list[int]:
        """Videos with a frame that is nearly one of ``video``'s."""
        if self._stacked is None:
            frames = [other.frames[~other.is_flat] for _, other in self._videos]
            owners = np.repeat(np.arange(len(frames)), [len(one) for one in frames])
            self._stacked = np.concatenate([np.zeros((0, _NUM_WORDS), np.uint64), *frames]), owners
        stacked, owners = self._stacked
        compared = video.frames[~video.is_flat]
        num_probes = min(len(compared), _NUM_PROBES)
        positions = np.linspace(0, len(compared) - 1, num_probes).round().astype(int)
        near = np.zeros(len(stacked), dtype=np.bool_)
        for probe in compared[positions]:
            for variant in (probe, probe ^ _MIRROR):
                near |= _num_different(stacked, variant) <= _PROBE_BITS
        return [int(number) for number in np.unique(owners[near])]


def _num_different(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Differing bits of hashes, whose words lie on the last axis."""
    counts: NDArray[np.int64] = np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)
    return counts


def _lowest(plane: NDArray[np.bool_], number: int) -> NDArray[np.bool_]:
    """The lowest frequencies of one of the three planes, without its mean: ``(n, bits)``."""
    kept = _CHROMA_FREQUENCIES if number else _LUMA_FREQUENCIES
    # The corner of the lowest frequencies: (n, kept, kept) -> (n, kept * kept - 1)
    return plane[:, :kept, :kept].reshape(len(plane), -1)[:, 1:]


def _pack(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """``(n, 213)`` bits as ``(n, 4)`` words."""
    padded = np.zeros((len(bits), 64 * _NUM_WORDS), dtype=np.bool_)
    padded[:, :_NUM_BITS] = bits
    # (n, 256) bits -> (n, 32) bytes -> (n, 4) words
    return np.packbits(padded, axis=1).view(np.uint64)


def _dct_matrix(num_frequencies: int, size: int) -> NDArray[np.float64]:
    """The first rows of the DCT-II, up to their scale: only signs are used."""
    # (frequencies, 1) and (1, size) -> (frequencies, size)
    frequencies, positions = np.arange(num_frequencies)[:, None], np.arange(size)[None, :]
    return np.cos(np.pi * (2 * positions + 1) * frequencies / (2 * size))


_DCT = _dct_matrix(_LUMA_FREQUENCIES, _THUMBNAIL)
_ODD = np.broadcast_to(np.arange(_LUMA_FREQUENCIES) % 2 == 1, (1, *_DCT.shape[:1] * 2))
_MIRROR = _pack(np.concatenate([_lowest(_ODD, plane) for plane in range(3)], axis=1))[0]
