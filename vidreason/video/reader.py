"""Exact frames of a video file: an index tells when each frame is shown, then any are read.

A frame is named by its index in presentation order. Its time is its presentation timestamp on the
file's clock, whose 0 is where a player begins: with the first sound or picture. So variable frame
rates, B-frames, edit lists and late starts need no further care. What is read is what decoding the
whole file in order gives, byte for byte (:mod:`vidreason.video.decoding`), upright, and scaled only
where pixels are not square or the caller wants smaller pictures. Whatever is wrong with a file is a
:class:`VideoReadError` (:mod:`vidreason.video.reading_errors`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.video import watchdog
from vidreason.video.decoding import decode_frames
from vidreason.video.display import limited_size
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex, index_video
from vidreason.video.limits import DECODE_TIMEOUT_SECONDS
from vidreason.video.media import MediaIdentity, is_remote, media_identity
from vidreason.video.media_content import MediaContent, read_content
from vidreason.video.reading_errors import reading_errors
from vidreason.video.sampling import frame_indices_at
from vidreason.video.sequential import frames_of_file

__all__ = ["DIRECT", "GUARDED", "VideoIndex", "VideoReadError", "VideoReader"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHECKED_AT_ONCE = 250
"""Frames that are decoded within one limit where a whole video, of any length, is decoded."""

_remarked: set[str] = set()
"""The kinds of remarks that this process has logged."""


@dataclass(frozen=True)
class VideoReader:
    """Reads videos of any form that :mod:`vidreason.video.media` names.

    Every method raises a :class:`VideoReadError` where the video cannot be read, or not in time.
    """

    timeout_seconds: float | None = DECODE_TIMEOUT_SECONDS
    """Read in another process (:mod:`vidreason.video.watchdog`), which is killed after this time
    and may take ``MAX_DECODER_BYTES``; None reads in this one, for as long as it takes."""

    def index(self, path: str) -> VideoIndex:
        """Learn when each frame of a video is shown.

        Where times are not the file's own, the index has ``remarks``. The first of each kind is
        also logged as a warning.

        Raises:
            VideoReadError: The file is missing, empty, cut off, not a video, without a video
                stream, with too large pictures, or without a single frame that can be decoded; or
                the time is up.
        """
        index = self._call(index_video, path)
        for remark in index.remarks:
            if remark.kind not in _remarked:
                _remarked.add(remark.kind)
                logger.warning(
                    "video %r: %s (further videos of which this is so are not named; `data check` "
                    "counts them)",
                    path,
                    remark.detail,
                )
        return index

    def read_frames(
        self,
        index: VideoIndex,
        frame_indices: Sequence[int] | NDArray[np.int64],
        *,
        max_side: int | None = None,
    ) -> Tensor:
        """Decode frames by their index in presentation order.

        Args:
            index: From :meth:`index`, in this process or another.
            frame_indices: n numbers from 0 to ``index.num_frames - 1``, in any order; repeats cost
                nothing.
            max_side: Scale frames whose longer side has more pixels to this while they are decoded,
                so that only one is held in full; None leaves them as they are.

        Returns:
            ``(n, 3, H, W)`` uint8 RGB in displayed orientation, in the order of ``frame_indices``;
            ``H`` and ``W`` are the index's, or less by ``max_side``. Pixels lie channels-last in
            memory, as decoding leaves them; call ``.contiguous()`` where that matters.

        Raises:
            ValueError: A frame index is out of range.
            VideoReadError: A wanted frame cannot be decoded, the file is not the one that was
                indexed, or the time is up.
        """
        wanted = [int(frame_index) for frame_index in frame_indices]
        for frame_index in wanted:
            if not 0 <= frame_index < index.num_frames:
                raise ValueError(
                    f"frame_indices: {frame_index} is out of range, the last frame of "
                    f"{index.path!r} is {index.num_frames - 1}"
                )
        width, height = limited_size(index.width, index.height, max_side)
        shape = (len(wanted), height, width, 3)
        if self.timeout_seconds is None or not wanted:
            with reading_errors(index.path):
                pictures = np.empty(shape, dtype=np.uint8)
                decode_frames(index, wanted, pictures)
        else:
            pictures = watchdog.decode_frames(index, wanted, shape, self.timeout_seconds)
        return torch.from_numpy(pictures).permute(0, 3, 1, 2)  # (n, H, W, 3) -> (n, 3, H, W)

    def read_frames_at(
        self,
        index: VideoIndex,
        seconds: Sequence[float] | NDArray[np.float64],
        *,
        max_side: int | None = None,
    ) -> Tensor:
        """:meth:`read_frames` of what is shown at the times ``seconds`` after the file's start."""
        wanted = frame_indices_at(index.timestamps, seconds)
        return self.read_frames(index, wanted, max_side=max_side)

    def check_frames(self, path: str) -> None:
        """Decode every frame of a video, and keep none.

        The limit is for each ``CHECKED_AT_ONCE`` frames.

        Raises:
            VideoReadError: A frame is damaged, or the time is up.
        """
        if self.timeout_seconds is None:
            for _ in frames_of_file(path):
                pass
            return
        num_frames = CHECKED_AT_ONCE
        is_continued = False
        while num_frames == CHECKED_AT_ONCE:
            num_frames = watchdog.call(
                "check_frames",
                path,
                CHECKED_AT_ONCE,
                is_continued,
                timeout_seconds=self.timeout_seconds,
            )
            is_continued = True

    def identify(self, media: str) -> MediaIdentity:
        """Return what a file is known by, without reading it.

        A file of this machine is looked at in this process, whatever the limit: training from a
        store does it for each video, and needs no other process.

        Raises:
            VideoReadError: It is missing or cannot be reached, or the time is up.
        """
        reader = self if is_remote(media) else DIRECT
        return reader._call(media_identity, media)

    def read_content(self, media: str) -> MediaContent:
        """Read a whole file for its hash.

        A remote file that is hashed and then indexed and decoded, with or without a limit for all
        of that, is fetched once (``READ_AT_ONCE_BYTES`` of :mod:`vidreason.video.media`).

        Raises:
            VideoReadError: It is missing, empty, no regular file, or cannot be read; or the time is
                up.
        """
        return self._call(read_content, media)

    def _call(self, function: Callable[[str], T], path: str) -> T:
        """Call one of the functions that the decoder process knows by name, here or there."""
        if self.timeout_seconds is None:
            with reading_errors(path):
                return function(path)
        result: T = watchdog.call(function.__name__, path, timeout_seconds=self.timeout_seconds)
        return result


GUARDED = VideoReader()
"""With the default limit."""

DIRECT = VideoReader(timeout_seconds=None)
"""In the calling process."""
