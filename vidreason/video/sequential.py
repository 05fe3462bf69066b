"""Decoding a whole file in order: for files whose packets do not tell what is shown when."""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from vidreason.video.clock import PacketClock
from vidreason.video.container import OpenVideo, is_end, open_video
from vidreason.video.failures import VideoReadError
from vidreason.video.survey import Damage, decode_packet


def frames_of_file(path: str) -> Iterator[VideoFrame]:
    """:func:`decode_all` of the video at ``path``."""
    with open_video(path) as video:
        yield from decode_all(video)


def decode_all(video: OpenVideo) -> Iterator[VideoFrame]:
    """Decode a freshly opened video from its start, in presentation order.

    Raises:
        VideoReadError: A frame after the first sound one is damaged. Before it, and where parts of
            other files were joined, pictures that refer to what is not there are normal, and
            dropped.
    """
    for frame, _ in decode_numbered(video, PacketClock(video)):
        yield frame


def decode_numbered(
    video: OpenVideo, clock: PacketClock
) -> Iterator[tuple[VideoFrame, int | None]]:
    """:func:`decode_all`, with the number of the packet that each frame belongs to.

    The number is counted from the file's start, and None where the decoder does not say it.
    """
    num_frames = num_before_part = 0
    for number, (packet, is_first) in enumerate(clock.joints()):
        if is_first:
            frames, _ = decode_packet(video.stream, None)
            yield from ((frame, frame.pts) for frame in frames)
            num_frames += len(frames)
            num_before_part = num_frames
            video.stream.codec_context.flush_buffers()
        if not is_end(packet):
            packet.pts = number  # decoders hand it on to the frame
        frames, damage = decode_packet(video.stream, packet)
        if damage and num_frames > num_before_part:
            raise _damaged(video.path, num_frames, damage)
        yield from ((frame, frame.pts) for frame in frames)
        num_frames += len(frames)


def _damaged(path: str, num_frames: int, damage: Damage) -> VideoReadError:
    cause = next(iter(damage.values()))
    detail = f"it is damaged after frame {num_frames - 1}: {cause}"
    return VideoReadError(path, "decode-error", detail)
