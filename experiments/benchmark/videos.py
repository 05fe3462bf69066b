"""The videos that decoding is measured on: written here, so that everybody measures the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

NUM_NOISES = 8
"""Fields of sensor noise, which take turns."""


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """Size, movement and coding of a benchmark video."""

    width: int
    height: int
    rate: int
    """Frames a second."""
    group: int
    """Longest group of pictures, in frames."""
    b_frames: int
    """Most B-frames in a row."""
    preset: str = "medium"
    """Preset of x264."""


def write_benchmark_video(path: Path, plan: VideoPlan, num_frames: int) -> None:
    """Write frames of texture under a moving camera, with eight moving patches and noise.

    The texture has as much contrast at each scale (1/f noise), as photographs have.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264",
            rate=plan.rate,
            options={
                "g": str(plan.group),
                "bf": str(plan.b_frames),
                "preset": plan.preset,
                "crf": "28",
            },
        )
        stream.width, stream.height, stream.pix_fmt = plan.width, plan.height, "yuv420p"
        # A tick is a frame, so that timestamps are the frames' numbers.
        stream.codec_context.time_base = Fraction(1, plan.rate)
        for number, picture in enumerate(_pictures(plan, num_frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, plan.rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))  # the frames that the coder still holds


def write_repeated(source: Path, target: Path, times: int) -> None:
    """Write the packets of ``source``, which begin with a key frame, ``times`` times in a row.

    So an hour of video takes no longer to make than to write.
    """
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        assert stream.time_base is not None
        copy = writer.add_stream_from_template(stream)
        # The last packet is empty.
        packets = [packet for packet in reader.demux(stream) if packet.size]
        content = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in packets]
        # Packets come in decoding order. The length is that from the first frame shown to the end
        # of the last one, in ticks.
        shown = sorted(packet.pts or 0 for packet in packets)
        length = shown[-1] - shown[0] + (shown[1] - shown[0])
        for turn in range(times):
            for data, pts, dts, duration, is_key in content:
                packet = av.Packet(data)
                packet.pts = None if pts is None else pts + turn * length
                packet.dts = None if dts is None else dts + turn * length
                packet.duration, packet.is_keyframe = duration or 0, is_key
                # The writer turns ticks into those of its own format.
                packet.time_base, packet.stream = stream.time_base, copy
                writer.mux(packet)


def _pictures(plan: VideoPlan, num_frames: int) -> Iterator[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    height, width = plan.height, plan.width
    # 64 pixels more on each side: the camera moves by up to 60.
    texture = _texture(generator, height + 128, width + 128)
    patches = [_texture(generator, height // 6, width // 8) for _ in range(8)]
    moves = generator.uniform(0.3, 1.0, (8, 2))  # radians a second, down and right
    # In grey levels, the same in all three colours.
    noises = generator.normal(0, 2, (NUM_NOISES, height, width, 1)).astype(np.float32)
    for number in range(num_frames):
        seconds = number / plan.rate
        top, left = (int(64 + 60 * np.sin(seconds * speed)) for speed in (0.7, 0.5))
        picture = texture[top : top + height, left : left + width].copy()
        for patch, (down, right) in zip(patches, moves, strict=True):
            rows, columns = height - patch.shape[0], width - patch.shape[1]
            row = int(rows * (0.5 + 0.5 * np.sin(seconds * down)))
            column = int(columns * (0.5 + 0.5 * np.cos(seconds * right)))
            picture[row : row + patch.shape[0], column : column + patch.shape[1]] = patch
        picture += noises[number % NUM_NOISES]
        yield picture.clip(0, 255).astype(np.uint8)


def _texture(generator: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """``(height, width, 3)`` 1/f noise of mean 128 and deviation 45."""
    # Half of the frequencies along the rows: the picture is real.
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    # Amplitudes fall as 1/f; frequency 0 counts as the lowest other one, and is removed below.
    scale = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    white = generator.normal(size=(3, *scale.shape)) + 1j * generator.normal(size=(3, *scale.shape))
    waves = np.fft.irfft2(white * scale, s=(height, width))
    waves -= waves.mean(axis=(1, 2), keepdims=True)
    waves *= 45 / waves.std(axis=(1, 2), keepdims=True)
    return (waves + 128).transpose(1, 2, 0).astype(np.float32)
