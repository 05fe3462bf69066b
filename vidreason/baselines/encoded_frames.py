"""Frames as files in memory, for systems that are sent them: JPEG pictures, or an mp4 video."""

import io
from fractions import Fraction
from math import sqrt
from typing import Any, cast

import av
import numpy as np
from PIL import Image
from torch import Tensor

from vidreason.baselines.frames import Frames

JPEG_QUALITY = 90  # of Pillow's scale to 95
VIDEO_QUALITY = 18
"""The constant rate factor of x264: 18 is near the original."""


def jpegs(frames: Frames, max_pixels: int) -> list[bytes]:
    """Return each frame as a JPEG file, with at most ``max_pixels`` pixels."""
    return [_jpeg(_picture(pixels, max_pixels)) for pixels in frames.pixels]


def sent_size(width: int, height: int, max_pixels: int, step: int = 1) -> tuple[int, int]:
    """Return width and height, multiples of ``step``, of a frame that is sent."""
    scale = min(sqrt(max_pixels / (width * height)), 1.0)
    return max(int(width * scale) // step, 1) * step, max(int(height * scale) // step, 1) * step


def mp4(frames: Frames, max_pixels: int) -> bytes:
    """Return the frames as an H.264 video, at the rate at which they were taken.

    Width and height are even, as the format has colours for blocks of 2 x 2 pixels.
    """
    pictures = [_picture(pixels, max_pixels, step=2) for pixels in frames.pixels]
    rate = _rate(frames)
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream = cast(Any, container.add_stream("libx264", rate=rate))
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        # One thread: there are few frames, and several requests at a time.
        stream.options = {"crf": str(VIDEO_QUALITY), "threads": "1"}
        stream.time_base = 1 / rate
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _rate(frames: Frames) -> Fraction:
    """Return the frames per second, on average from the first to the last."""
    steps, seconds = len(frames.seconds) - 1, frames.seconds[-1] - frames.seconds[0]
    if seconds <= 0:  # one frame, or the same one several times
        steps, seconds = len(frames.seconds), frames.duration_seconds
    # In milliseconds, so that rates of long videos, such as 8 frames an hour, stay exact.
    return Fraction(1000 * steps, max(round(1000 * seconds), 1))


def _picture(pixels: Tensor, max_pixels: int, step: int = 1) -> Image.Image:
    """Return a frame ``(3, H, W)``, uint8, with sides that are multiples of ``step``."""
    # (3, H, W) -> (H, W, 3)
    picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    size = sent_size(picture.width, picture.height, max_pixels, step)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
