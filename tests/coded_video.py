"""Small videos whose frames say their own number: written here, read back by the reader's tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUM_BITS = 7
WIDTH, HEIGHT = 64, 48

X264 = {"g": "12", "bf": "3", "x264-params": "scenecut=0"}
X265 = {"x265-params": "keyint=12:min-keyint=12:scenecut=0:bframes=3:log-level=none"}
VARIANTS = {
    "h264": ("v.mp4", "libx264", X264, "yuv420p"),
    "h264-one-gop": ("v.mp4", "libx264", {"g": "250", "bf": "4"}, "yuv420p"),
    "h264-no-b": ("v.mp4", "libx264", {"g": "10", "bf": "0"}, "yuv420p"),
    "h264-intra": ("v.mp4", "libx264", {"g": "1"}, "yuv420p"),
    "h264-10-bit": ("v.mp4", "libx264", X264, "yuv420p10le"),
    "h264-open-gop": (
        "v.mp4",
        "libx264",
        {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"},
        "yuv420p",
    ),
    "h264-open-gop-mkv": (
        "v.mkv",
        "libx264",
        {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"},
        "yuv420p",
    ),
    "h264-transport-stream": ("v.ts", "libx264", X264, "yuv420p"),
    "h264-flv": ("v.flv", "libx264", X264, "yuv420p"),
    "h264-avi": ("v.avi", "libx264", X264, "yuv420p"),
    "h264-raw": ("v.h264", "libx264", X264, "yuv420p"),
    "h265-open-gop": (
        "v.mp4",
        "libx265",
        {"x265-params": X265["x265-params"] + ":open-gop=1"},
        "yuv420p",
    ),
    "h265-10-bit-mkv": ("v.mkv", "libx265", X265, "yuv420p10le"),
    "vp8": ("v.webm", "libvpx", {"g": "12"}, "yuv420p"),
    "vp9": ("v.webm", "libvpx-vp9", {"g": "12", "lag-in-frames": "10"}, "yuv420p"),
    "av1": ("v.mp4", "libsvtav1", {"g": "12", "preset": "12"}, "yuv420p"),
    "mpeg4-avi": ("v.avi", "mpeg4", {"g": "12", "bf": "2"}, "yuv420p"),
    "mpeg2-program-stream": ("v.mpg", "mpeg2video", {"g": "12", "bf": "2"}, "yuv420p"),
}
"""File name, codec, options and pixel format of each kind of video."""


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture (H, W, 3): the bits of ``number`` as blocks in its top third, a moving bar below.

    The eighth block, at the top right, is always bright: it tells which way up a picture is.
    """
    picture = np.full((height, width, 3), 100, dtype=np.uint8)
    block = width // 8
    for index in range(8):
        is_bright = index == NUM_BITS or number >> index & 1
        picture[: height // 3, index * block : (index + 1) * block] = 235 if is_bright else 20
    bar = number * 5 % (width - 8)
    picture[height // 2 :, bar : bar + 8] = (200, 40, 40)
    return picture


def number_of(frame) -> int:
    """The number burnt into an upright frame ``(3, H, W)``."""
    _, height, width = frame.shape
    block = width // 8
    codes = frame[:, 4 : height // 3 - 4, : 8 * block].float().mean(dim=(0, 1))
    bright = (codes.view(8, block)[:, 2:-2].mean(dim=1) > 128).tolist()
    assert bright[NUM_BITS], "the mark at the top right is missing: the frame is not upright"
    return sum(1 << index for index in range(NUM_BITS) if bright[index])


def write_video(
    path: Path,
    codec: str = "libx264",
    num_frames: int = 40,
    *,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    container_options: dict[str, str] | None = None,
    with_audio: bool = False,
    first_number: int = 0,
    pixel_aspect: Fraction | None = None,
    scale: int = 1,
) -> Path:
    """Encode frames numbered from ``first_number``, 25 a second or shown at ``ticks`` (ms)."""
    tick = Fraction(1, 25) if ticks is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = WIDTH * scale, HEIGHT * scale
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = tick
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound = container.add_stream("aac", rate=16000, layout="mono") if with_audio else None
        for index in range(num_frames):
            picture = draw(first_number + index, WIDTH * scale, HEIGHT * scale)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = tick
            container.mux(stream.encode(frame))
            if sound is not None:
                container.mux(sound.encode(_silence(index)))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with an audio stream and nothing else."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for index in range(25):
            container.mux(sound.encode(_silence(index)))
        container.mux(sound.encode(None))
    return path


def copy_packets(source: Path, target: Path, *, from_key_frame: int = 0, delay: int = 0) -> Path:
    """Cut at a key frame without encoding again (``ffmpeg -c copy``), and delay by stream ticks."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        num_keys = 0
        for packet in reader.demux(stream):
            num_keys += packet.is_keyframe
            if packet.size == 0 or num_keys <= from_key_frame:
                continue
            if delay:
                packet.pts += delay
                packet.dts = None if packet.dts is None else packet.dts + delay
            packet.stream = copy
            writer.mux(packet)
    return target


def decode_in_order(path: Path, stream_index: int = 0) -> np.ndarray:
    """All frames (n, H, W, 3) by plain sequential decoding: what the reader must equal."""
    with av.open(str(path)) as container:
        stream = container.streams[stream_index]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def _silence(index: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 640), dtype=np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate = 16000
    frame.pts = index * 640
    return frame
