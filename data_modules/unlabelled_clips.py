"""Clips of videos without labels, for self-supervised pre-training."""

import random
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset
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
        # A generator for each sample: whichever worker reads it, and when, draws the same moment.
        drawn = random.Random(f"clips/{self._seed}/{index}").random()
        first = float(video.timestamps[0])
        # The last start at which all frames lie in the video; of a shorter one the only start.
        latest = max(video.duration_seconds - self._offsets[-1], first)
        start = first + drawn * (latest - first)
        frames = frame_indices_at(video.timestamps, start + self._offsets)
        return self._transform.apply(self._reader.read_frames(video, frames))


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
