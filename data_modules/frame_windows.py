"""Windows of consecutive frames of videos, to learn frame prediction from.

Shapes: B batch, W frames of a window, S side of a frame.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import override

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
    stacked = torch.stack(frames) if frames else torch.empty(0, dtype=torch.uint8)
    return {"frames": stacked, "failures": failures}


class FrameWindowsData(LightningDataModule):
    """Windows for training, in another order in each epoch, and for validation.

    The order follows from the seed and the epoch, so that a run that resumes at the start of an
    epoch goes on as it would have.

    Args:
        training: Windows to learn from.
        validation: Windows of other videos.
        batch_size: Windows of a batch.
        seed: Of the order.
        num_workers: Processes that read; 0 reads in this one.
    """

    def __init__(
        self,
        training: FrameWindows,
        validation: FrameWindows,
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ValueError(
                f"batch_size is {batch_size} and num_workers {num_workers}; they must be at least "
                "1 and at least 0"
            )
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers

    @override
    def train_dataloader(self) -> DataLoader[Tensor | VideoFailure]:
        def epoch() -> int:
            return 0 if self.trainer is None else self.trainer.current_epoch

        return self._loader(self.training, EpochOrder(len(self.training), self.seed, epoch))

    @override
    def val_dataloader(self) -> DataLoader[Tensor | VideoFailure]:
        return self._loader(self.validation, None)

    def _loader(
        self, windows: FrameWindows, order: Sampler[int] | None
    ) -> DataLoader[Tensor | VideoFailure]:
        return DataLoader(
            windows,
            batch_size=self.batch_size,
            sampler=order,
            collate_fn=collate_windows,
            num_workers=self.num_workers,
            # Its own, so that building a loader draws no number that a step's noise would get.
            generator=torch.Generator().manual_seed(self.seed),
            persistent_workers=self.num_workers > 0,
        )


class EpochOrder(Sampler[int]):
    """A permutation for each epoch.

    Args:
        size: Of the permutation.
        seed: Of all of them.
        epoch: Gives the epoch when it begins.
    """

    def __init__(self, size: int, seed: int, epoch: Callable[[], int]) -> None:
        self._size = size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self._seed, self._epoch()))
        yield from generator.permutation(self._size).tolist()
