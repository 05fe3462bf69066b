"""Exact frames of a video file: an index tells when each frame is shown, then any are read.

A frame is named by its index in presentation order. Its time is its presentation timestamp on the
file's clock, whose 0 is where a player begins: with the first sound or picture. So variable frame
rates, B-frames, edit lists and late starts need no further care. What is read is what decoding the
whole file in order gives, byte for byte (:mod:`vidreason.video.decoding`), upright, and scaled only
where pixels are not square or the caller wants smaller pictures. Whatever is wrong with a file is a
:class:`VideoReadError` (:mod:`vidreason.video.reading_errors`).
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.video import index as indexing
from vidreason.video import media_content, watchdog
from vidreason.video.container import open_video
from vidreason.video.decoding import decode_frames
from vidreason.video.display import limited_size
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex
from vidreason.video.media import MediaIdentity, is_remote
from vidreason.video.media_content import MediaContent
from vidreason.video.reading_errors import reading_errors
from vidreason.video.sampling import frame_indices_at
from vidreason.video.sequential import decode_all

__all__ = [
    "VideoIndex",
    "VideoReadError",
    "check_frames",
    "check_span",
    "identify",
    "index_video",
    "read_content",
    "read_frames",
    "read_frames_at",
]

logger = logging.getLogger(__name__)

_remarked: set[str] = set()
"""The kinds of remarks that this process has said."""


def index_video(path: str, *, timeout_seconds: float | None = None) -> VideoIndex:
    """Learn when each frame of a video is shown.

    Args:
        path: Of any form that :mod:`vidreason.video.media` names.
        timeout_seconds: Read in another process, which is killed after so long; None reads in this
            one, for as long as it takes.

    Where times are not the file's own, the index has ``remarks``. The first of each kind is also
    logged as a warning.

    Raises:
        VideoReadError: The file is missing, empty, cut off, not a video, without a video stream,
            with too large pictures, or without a single frame that can be decoded; or the time is
            up.
    """
    if timeout_seconds is None:
        with reading_errors(path):
            index = indexing.index_video(path)
    else:
        index = watchdog.index_video(path, timeout_seconds)
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


def check_span(
    index: VideoIndex, start_seconds: float | None, end_seconds: float | None = None
) -> None:
    """Raise a ``VideoReadError`` if no frame is shown in a span."""
    first_seconds = float(index.timestamps[0])
    if end_seconds is not None and end_seconds <= first_seconds and first_seconds > 0:
        raise VideoReadError(
            index.path,
            "span-outside",
            f"its picture begins at {first_seconds:.2f} s, after the span that ends at "
            f"{end_seconds:.2f} s",
        )
    if start_seconds is not None and start_seconds >= index.duration_seconds:
        raise VideoReadError(
            index.path,
            "span-outside",
            f"it ends at {index.duration_seconds:.2f} s, before the span that starts at "
            f"{start_seconds:.2f} s",
        )


def read_frames(
    index: VideoIndex,
    frame_indices: Sequence[int] | NDArray[np.int64],
    *,
    max_side: int | None = None,
    timeout_seconds: float | None = None,
) -> Tensor:
    """Decode frames by their index in presentation order.

    Args:
        index: From :func:`index_video`, in this process or another.
        frame_indices: n numbers from 0 to ``index.num_frames - 1``, in any order; repeats cost
            nothing.
        max_side: Scale frames whose longer side has more pixels to this while they are decoded, so
            that only one is held in full; None leaves them as they are.
        timeout_seconds: As for :func:`index_video`.

    Returns:
        ``(n, 3, H, W)`` uint8 RGB in displayed orientation, in the order asked for; ``H`` and ``W``
        are the index's, or less by ``max_side``. Pixels lie channels-last in memory, as decoding
        leaves them; call ``.contiguous()`` where that matters.

    Raises:
        ValueError: A frame index is out of range.
        VideoReadError: A frame that was asked for cannot be decoded, the file is not the one that
            was indexed, or the time is up.
    """
    wanted = [int(frame_index) for frame_index in frame_indices]
    for frame_index in wanted:
        if not 0 <= frame_index < index.num_frames:
            raise ValueError(
                f"frame_indices: {frame_index} is out of range, the last frame of "
                f"{index.path!r} is {index.num_frames - 1}"
            )
    width, height = limited_size(index.width, index.height, max_side)
    if timeout_seconds is None or not wanted:
        with reading_errors(index.path):
            pictures = np.empty((len(wanted), height, width, 3), dtype=np.uint8)
            decode_frames(index, wanted, pictures)
    else:
        pictures = watchdog.decode_frames(index, wanted, (width, height), timeout_seconds)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def read_frames_at(
    index: VideoIndex,
    seconds: Sequence[float] | NDArray[np.float64],
    *,
    max_side: int | None = None,
    timeout_seconds: float | None = None,
) -> Tensor:
    """:func:`read_frames` of the frames shown at the times ``seconds`` after the file's start."""
    wanted = frame_indices_at(index.timestamps, seconds)
    return read_frames(index, wanted, max_side=max_side, timeout_seconds=timeout_seconds)


def check_frames(path: str, *, timeout_seconds: float | None = None) -> None:
    """Decode every frame of a video, and keep none.

    Args:
        path: As for :func:`index_video`.
        timeout_seconds: As there, for each ``CHECKED_AT_ONCE`` frames of :mod:`.watchdog`.

    Raises:
        VideoReadError: A frame is damaged, or the time is up.
    """
    if timeout_seconds is not None:
        watchdog.check_frames(path, timeout_seconds)
        return
    with open_video(path) as video:
        for _ in decode_all(video):
            pass


def identify(media: str, *, timeout_seconds: float | None = None) -> MediaIdentity:
    """Return what a file is known by, without reading it.

    Args:
        media: Of any form that :mod:`vidreason.video.media` names.
        timeout_seconds: As for :func:`index_video`; but a file of this machine is looked at in this
            process all the same: training from a store does it for each video, and needs no other
            process.

    Raises:
        VideoReadError: It is missing or cannot be reached, or the time is up.
    """
    if timeout_seconds is None or not is_remote(media):
        with reading_errors(media):
            return media_content.identify(media)
    return watchdog.identify(media, timeout_seconds)


def read_content(media: str, *, timeout_seconds: float | None = None) -> MediaContent:
    """Read a whole file for its hash.

    A remote file that is hashed and then indexed and decoded, with or without a limit for all of
    that, is fetched once (``READ_AT_ONCE_BYTES`` of :mod:`vidreason.video.media`).

    Args:
        media: Of any form that :mod:`vidreason.video.media` names.
        timeout_seconds: As for :func:`index_video`.

    Raises:
        VideoReadError: It is missing, empty, no regular file, or cannot be read; or the time is up.
    """
    if timeout_seconds is None:
        with reading_errors(media):
            return media_content.read_content(media)
    return watchdog.read_content(media, timeout_seconds)
