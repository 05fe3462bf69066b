"""Windows of consecutive frames of videos, to learn frame prediction from.

Shapes: B batch, W frames of a window, S side of a frame.
"""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.pictures import shrink
from vidreason.video.failures import VideoFailure, VideoReadError
from vidreason.video.index import VideoIndex
from vidreason.video.reader import GUARDED, VideoReader
from vidreason.video.sampling import frame_indices_at


class FramesBatch(TypedDict):
    """A batch of windows."""

    frames: Tensor
    """``(B, W, 3, S, S)`` uint8 RGB; unreadable videos are not among them, so B may be 0."""
    failures: list[VideoFailure]
    """Failures of the batch's unreadable videos."""


class FrameWindows(Dataset[Tensor | VideoFailure]):
    """Windows of a model's number of frames, evenly spread over each video.

    A video that is unreadable, or shorter than a window, is a failure at each of its windows; no
    other video stands in for it.

    Args:
        videos: Paths, as a :class:`VideoReader` takes them.
        config: The model's numbers of frames, frame rate and side.
        windows_per_video: Windows of each video.
        reader: Decodes the videos.
    """

    def __init__(
        self,
        videos: Sequence[str],
        config: DiffusionConfig,
        *,
        windows_per_video: int = 8,
        reader: VideoReader = GUARDED,
    ) -> None:
        if windows_per_video < 1:
            raise ValueError(f"windows_per_video is {windows_per_video}; it must be at least 1")
        self.videos = videos
        self.config = config
        self.windows_per_video = windows_per_video
        self._reader = reader
        # A video is indexed once in each process, for all of its windows.
        self._indices: dict[str, VideoIndex] = {}

    def __len__(self) -> int:
        return len(self.videos) * self.windows_per_video

    def __getitem__(self, number: int) -> Tensor | VideoFailure:
        """Read a window, ``(W, 3, S, S)`` uint8 RGB."""
        video, window = divmod(number, self.windows_per_video)
        path = self.videos[video]
        try:
            if path not in self._indices:
                self._indices[path] = self._reader.index(path)
            index = self._indices[path]
            chosen = self._frames_of(index, (window + 0.5) / self.windows_per_video)
            return shrink(self._reader.read_frames(index, chosen), self.config.image_size)
        except VideoReadError as error:
            return error.failure(path)

    def _frames_of(self, index: VideoIndex, share: float) -> list[int]:
        """Indices of the frames of the window that begins after a share of the possible starts."""
        size, rate = self.config.window, self.config.frame_rate
        if rate is None:
            room: float = index.num_frames - size
            # room + 1 frames can be the first; a room below 0 is refused below.
            first = math.floor(share * (room + 1))
            chosen = list(range(first, first + size))
        else:
            start = float(index.timestamps[0])
            room = index.duration_seconds - start - (size - 1) / rate
            seconds = start + share * room + np.arange(size) / rate
            chosen = frame_indices_at(index.timestamps, seconds).tolist() if room > 0 else []
        if room < 0 or not chosen:
            length = f"{size} frames" + (f" at {rate:g} a second" if rate else "")
            raise VideoReadError(
                index.path, "span-outside", f"it is shorter than a window of {length}"
            )
        return chosen


def collate_windows(windows: Sequence[Tensor | VideoFailure]) -> FramesBatch:
    """Batch windows in their order."""
    frames = [window for window in windows if isinstance(window, Tensor)]
    failures = [window for window in windows if not isinstance(window, Tensor)]
    # (B, W, 3, S, S), or (0,) where no video could be read
    stacked = torch.stack(frames) if frames else torch.empty(0, dtype=torch.uint8)
    return {"frames": stacked, "failures": failures}
