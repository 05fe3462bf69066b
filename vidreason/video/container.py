"""Opening one video file with PyAV: checks, the stream to read, the file's clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from vidreason.video.display import check_num_pixels
from vidreason.video.failures import VideoReadError
from vidreason.video.limits import MAX_PIXELS
from vidreason.video.media import libav_source, open_media
from vidreason.video.media_content import check_media
from vidreason.video.mp4_tables import lacks_index
from vidreason.video.reading_errors import describe, reading_errors

NOT_VIDEO_FORMATS = {
    "tty": "it is a text file",  # libav would draw the text as a picture
    "concat": "it is a playlist, not a video",  # playlists may name any other file of this machine
    "dash": "it is a playlist, not a video",
    "hls": "it is a playlist, not a video",
}

BROADCAST_FORMATS = {"mpegts", "mpeg"}
"""Their clock runs on from broadcast to broadcast; it may be at any time when a file begins."""

TS_PACKET_BYTES, TS_SYNC_BYTE = 188, 0x47

_LIMITS = {"max_pixels": str(MAX_PIXELS)}

# Tags in other encodings than UTF-8 must not stop the reading of the pictures. Since 19 PyAV reads
# them so by itself, and has no such option.
_TAGS: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)

_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, kw_only=True)
class OpenVideo:
    """An open file and the one stream of it that is read."""

    path: str
    container: InputContainer
    stream: VideoStream

    @property
    def formats(self) -> frozenset[str]:
        """Names of the container's format; libav has one demuxer for several."""
        return frozenset(self.container.format.name.split(","))

    @property
    def tick(self) -> Fraction:
        """Seconds of a tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1)


@contextmanager
def open_video(path: str) -> Iterator[OpenVideo]:
    """Open ``path`` for demuxing and decoding its video stream.

    Args:
        path: Of any form that :mod:`vidreason.video.media` names.

    Raises:
        VideoReadError: The file is missing, empty, not a video, has no video stream or too large
            pictures; also for any other error that escapes the body of the ``with`` statement.
    """
    with reading_errors(path):
        check_media(path)
        with _open_container(path) as container:
            stream = _choose_stream(path, container)
            # One thread a video: workers and processes read videos side by side, and one thread
            # costs least CPU time.
            stream.codec_context.thread_type = ThreadType.NONE
            stream.codec_context.thread_count = 1
            stream.codec_context.options = _LIMITS
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            yield OpenVideo(path=path, container=container, stream=stream)


def is_end(packet: "Packet[Any]") -> bool:
    """Tell whether ``packet`` is the empty one with which PyAV ends a demuxing."""
    return packet.size == 0 and packet.pts is None and packet.dts is None


def _open_container(path: str, format_name: str | None = None) -> InputContainer:
    try:
        container: InputContainer = av.open(
            libav_source(path),
            mode="r",
            format=format_name,
            **_TAGS,
            container_options={"protocol_whitelist": "file,subfile"},
            options=_LIMITS,  # already while libav looks for what the streams are
        )
        return container
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        if format_name is None and _is_short_transport_stream(path):
            return _open_container(path, "mpegts")
        if lacks_index(path):
            raise VideoReadError(
                path, "truncated", "the file is cut off: its index is missing"
            ) from error
        raise VideoReadError(path, "not-a-video", describe(error)) from error


def _is_short_transport_stream(path: str) -> bool:
    """Tell whether this is MPEG-TS of fewer packets than libav needs to recognise it."""
    with open_media(path) as file:
        start = file.read(10 * TS_PACKET_BYTES + 1)
    return len(start) <= 10 * TS_PACKET_BYTES and set(start[::TS_PACKET_BYTES]) == {TS_SYNC_BYTE}


def _choose_stream(path: str, container: InputContainer) -> VideoStream:
    """The default video stream; among several, or without one, that with the most pixels."""
    cause = NOT_VIDEO_FORMATS.get(container.format.name)
    if cause is not None:
        raise VideoReadError(path, "not-a-video", cause)
    streams = [s for s in container.streams.video if not s.disposition & _COVERS]
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

    chosen = max(decodable, key=preference)
    check_num_pixels(path, chosen.width, chosen.height)
    return chosen


def demux(video: OpenVideo) -> "Iterator[Packet[VideoStream]]":
    """The stream's packets from where the file is, and an empty one at its end.

    PyAV 18.1 ends in an ``IndexError`` where a broadcast has got further streams on its way.
    """
    packets = video.container.demux(video.stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            break
        if not is_end(packet):
            yield packet
    yield cast("Packet[VideoStream]", Packet())


def clock_start(video: OpenVideo, first_frame_seconds: float) -> float:
    """Start of the file, in seconds of its container's timestamps: its time 0 for a player.

    That is when its first sound or picture begins. Sound that precedes time 0 of a container that
    has one is what a decoder of sound needs to start; it is not played.

    Args:
        video: The open file.
        first_frame_seconds: When the first frame is shown, in container's timestamps.
    """
    has_zero = not BROADCAST_FORMATS & video.formats
    start = first_frame_seconds
    for other in video.container.streams:
        is_played = other.type in ("audio", "video") and not other.disposition & _COVERS
        if not is_played or other.index == video.stream.index or other.start_time is None:
            continue
        seconds = float(other.start_time * (other.time_base or 0))
        start = min(start, max(seconds, 0.0) if has_zero else seconds)
    return start
