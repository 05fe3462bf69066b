"""Opening one video file with PyAV: checks, the stream to read, the way up, one kind of error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidreason.video.failures import FailureCause, VideoReadError, read_error
from vidreason.video.media import libav_source
from vidreason.video.media_content import check_media
from vidreason.video.mp4_tables import lacks_index

NOT_VIDEO_FORMATS = {
    "tty": "it is a text file",  # libav would draw the text as a picture
    "concat": "it is a playlist, not a video",  # playlists may name any other file of this machine
    "dash": "it is a playlist, not a video",
    "hls": "it is a playlist, not a video",
}


@dataclass(frozen=True, kw_only=True)
class OpenVideo:
    """An open file and the one stream of it that is read."""

    path: str
    container: InputContainer
    stream: VideoStream


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How the coded picture is turned into the displayed one: flipped first, turned then."""

    mirrored: bool = False
    """Whether left and right are exchanged."""
    quarter_turns: int = 0
    """Turns by 90 degrees counterclockwise, 0 to 3."""

    def display(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The displayed form of a coded ``picture`` of shape ``(H, W, 3)``, as a view."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.quarter_turns)


@contextmanager
def open_video(path: str) -> Iterator[OpenVideo]:
    """Open ``path`` for demuxing and decoding its video stream.

    Args:
        path: Of any form that :mod:`vidreason.video.media` names.

    Raises:
        VideoReadError: The file is missing, empty, not a video or has no video stream; also for any
            error of libav, or of the store that holds the file, that escapes the body of the
            ``with`` statement.
    """
    with reading_errors(path):
        check_media(path)
        with _open_container(path) as container:
            stream = _choose_stream(path, container)
            # One thread a video: workers and processes read videos side by side, and one thread
            # costs least CPU time.
            stream.codec_context.thread_type = ThreadType.NONE
            stream.codec_context.thread_count = 1
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            yield OpenVideo(path=path, container=container, stream=stream)


@contextmanager
def reading_errors(path: str) -> Iterator[None]:
    """Turn errors of libav and of the store that holds ``path`` into a :class:`VideoReadError`."""
    try:
        yield
    except FFmpegError as error:
        cause: FailureCause = "unreachable" if isinstance(error, OSError) else "decode-error"
        raise VideoReadError(path, cause, describe(error)) from error
    except OSError as error:
        raise read_error(path, error) from error


def describe(error: FFmpegError) -> str:
    """What libav says about ``error``, without codes and file names."""
    return f"libav says {error.strerror or type(error).__name__!r}"


def is_end(packet: "Packet[Any]") -> bool:
    """Whether ``packet`` is the empty one with which PyAV ends a demuxing."""
    return packet.size == 0 and packet.pts is None and packet.dts is None


def display_orientation(path: str, frame: VideoFrame) -> Orientation:
    """Read the display matrix that libav attaches to ``frame``; without one the frame is upright.

    Raises:
        VideoReadError: The matrix is not made of quarter turns and flips.
    """
    side_data: Any = frame.side_data  # the type stubs know motion vectors only
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    return orientation_of_matrix(path, np.frombuffer(bytes(matrix), dtype="<i4").reshape(3, 3))


def orientation_of_matrix(path: str, matrix: NDArray[np.int32]) -> Orientation:
    """Turn a display matrix (3, 3), rows (a, b, u), (c, d, v), (x, y, w), into an orientation.

    It maps the coded point (p, q) to (a p + c q, b p + d q); y points down in both pictures.

    Raises:
        VideoReadError: The matrix is not made of quarter turns and flips.
    """
    axes = matrix[:2, :2].astype(np.float64)  # row 0 is where the x axis goes, row 1 the y axis
    lengths = np.linalg.norm(axes, axis=1)
    if not lengths.any():
        return Orientation()  # some cameras write zeros and mean "as it is"
    axes = axes / np.maximum(lengths, 1e-9)[:, None]
    rounded = np.rint(axes)
    if np.abs(axes - rounded).max() > 0.02 or abs(np.linalg.det(rounded)) != 1:
        raise VideoReadError(
            path, "unsupported", f"its display matrix is no quarter turn: {matrix.tolist()}"
        )
    mirrored = bool(np.linalg.det(rounded) < 0)
    x_axis = -rounded[0] if mirrored else rounded[0]
    turns = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}[(int(x_axis[0]), int(x_axis[1]))]
    return Orientation(mirrored=mirrored, quarter_turns=turns)


def _open_container(path: str) -> InputContainer:
    try:
        # Tags in other encodings than UTF-8 must not stop the reading of the pictures.
        return av.open(
            libav_source(path),
            mode="r",
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file,subfile"},
        )
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        if lacks_index(path):
            raise VideoReadError(
                path, "truncated", "the file is cut off: its index is missing"
            ) from error
        raise VideoReadError(path, "not-a-video", describe(error)) from error


def _choose_stream(path: str, container: InputContainer) -> VideoStream:
    """The default video stream; among several, or without one, that with the most pixels."""
    cause = NOT_VIDEO_FORMATS.get(container.format.name)
    if cause is not None:
        raise VideoReadError(path, "not-a-video", cause)
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoReadError(
            path, "no-video-stream", f"it has no video stream (its streams: {', '.join(kinds)})"
        )
    decodable = [s for s in streams if s.codec_context is not None]
    if not decodable:
        raise VideoReadError(
            path, "unsupported", "this build of libav has no decoder for its video codec"
        )

    def preference(stream: VideoStream) -> tuple[bool, int, int]:
        is_default = bool(stream.disposition & Disposition.default)
        return is_default, stream.width * stream.height, -stream.index

    return max(decodable, key=preference)
