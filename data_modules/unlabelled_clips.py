"""Clips of videos without labels, for self-supervised pre-training."""

import random
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from typing_extensions import override

from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.reader import GUARDED, VideoIndex, VideoReader
from vidreason.video.sampling import frame_indices_at
from vidreason.video.transforms import FrameTransform


class UnlabelledClips(Dataset[Tensor]):
    """Normalised clips ``(F, 3, S, S)``, several of each video, each from a moment drawn for it.

    Sample ``i`` is of video ``i % len(videos)``; its moment follows from the seed and ``i`` alone.

    Args:
        videos: Indices of the videos, as :func:`index_videos` makes them.
        transform: From a decoded frame to network input.
        num_frames: Frames F of a clip.
        frames_per_second: Their rate, whatever the video's own; the last frame of a video that is
            too short repeats.
        clips_per_video: Clips of each video in an epoch.
        seed: Of the moments.
        reader: Decodes the frames.

    Raises:
        ValueError: There are no videos.
    """

    def __init__(
        self,
        videos: Sequence[VideoIndex],
        transform: FrameTransform,
        *,
        num_frames: int,
        frames_per_second: float,
        clips_per_video: int = 1,
        seed: int = 0,
        reader: VideoReader = GUARDED,
    ) -> None:
        if not videos:
            raise ValueError("there is no video to pre-train on; list a corpus with videos")
        self._videos = videos
        self._transform = transform
        self._offsets = np.arange(num_frames) / frames_per_second
        self._clips_per_video = clips_per_video
        self._seed = seed
        self._reader = reader

    def __len__(self) -> int:
        return len(self._videos) * self._clips_per_video

    @override
    def __getitem__(self, index: int) -> Tensor:
        """Read a clip.

        Raises:
            VideoReadError: A frame cannot be decoded.
        """
        video = self._videos[index % len(self._videos)]
        drawn = random.Random(f"clips/{self._seed}/{index}").random()
        first = float(video.timestamps[0])
        latest = max(video.duration_seconds - self._offsets[-1], first)
        start = first + drawn * (latest - first)
        frames = frame_indices_at(video.timestamps, start + self._offsets)
        return self._transform.apply(self._reader.read_frames(video, frames))


class UnlabelledClipsData(LightningDataModule):
    """Batches of clips, in an order that follows from seed and epoch.

    Args:
        training: Clips to learn from.
        validation: Clips of other videos; None for none.
        batch_size: Clips of a batch.
        seed: Of the order.
        num_workers: Processes that read; 0 reads in this one.
    """

    def __init__(
        self,
        training: UnlabelledClips,
        validation: UnlabelledClips | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self._training = training
        self._validation = validation
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers

    @override
    def train_dataloader(self) -> DataLoader[Tensor]:
        # Lightning tells a sampler of this class the epoch, a resumed run's as well.
        order: DistributedSampler[Tensor] = DistributedSampler(
            self._training, num_replicas=1, rank=0, seed=self._seed
        )
        return self._loader(self._training, order)

    @override
    def val_dataloader(self) -> list[DataLoader[Tensor]]:
        return [] if self._validation is None else [self._loader(self._validation, None)]

    def _loader(
        self, clips: UnlabelledClips, order: DistributedSampler[Tensor] | None
    ) -> DataLoader[Tensor]:
        return DataLoader(
            clips,
            self._batch_size,
            sampler=order,
            num_workers=self._num_workers,
            # Its own, so that building a loader draws no number that a step would get.
            generator=torch.Generator().manual_seed(self._seed),
        )


def index_videos(
    media: Iterable[str], failures: FailureLog, reader: VideoReader = GUARDED
) -> list[VideoIndex]:
    """Index each video once, in the given order.

    Args:
        media: Paths of videos, which may repeat.
        failures: Records and counts the unreadable ones, which are left out.
        reader: Reads them.

    Raises:
        UnreadableVideosError: Too many cannot be read.
    """
    videos = []
    for path in dict.fromkeys(media):
        try:
            videos.append(reader.index(path))
        except VideoReadError as error:
            failures.record(1, [error.failure(path)])
        else:
            failures.record(1)
    return videos
