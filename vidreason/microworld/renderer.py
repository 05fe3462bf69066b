"""Pictures of a rollout: RGB frames, the objects' true masks, and H.264 video files."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import (
    ARENA,
    RADIUS,
    VIDEO_SECONDS,
    Body,
    Rollout,
)

FRAME_SIZE = 128
"""Width and height of a video in pixels."""
FRAMES_PER_SECOND = 8

_OVERSAMPLING = 2  # drawn this many times as large, then shrunk: edges become smooth
_PIXELS_PER_UNIT = FRAME_SIZE / ARENA
_RGB = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (240, 208, 30),
    "purple": (138, 48, 190),
    "orange": (244, 132, 24),
}
_WALL_RGB = (70, 70, 70)
_SCREEN_RGB = (128, 146, 170)


def frame_times() -> NDArray[np.float64]:
    """The presentation times of a video's frames in seconds."""
    return np.arange(round(VIDEO_SECONDS * FRAMES_PER_SECOND)) / FRAMES_PER_SECOND


def render_frame(rollout: Rollout, time: float) -> NDArray[np.uint8]:
    """The picture at ``time`` seconds, shape ``(FRAME_SIZE, FRAME_SIZE, 3)``, anti-aliased."""
    size = FRAME_SIZE * _OVERSAMPLING
    grey = rollout.scene.background
    image = Image.new("RGB", (size, size), (grey, grey, grey))
    draw = ImageDraw.Draw(image)
    scale = _PIXELS_PER_UNIT * _OVERSAMPLING
    # Later ones cover earlier ones: the wall is below all bodies, the screen above them.
    _draw_rectangle(draw, rollout.scene.wall, scale, fill=_WALL_RGB)
    for body in rollout.scene.bodies:
        x, y, _, _ = rollout.state(body.color, time)
        _draw_body(draw, body, x * scale, y * scale, RADIUS * scale, fill=_RGB[body.color])
    _draw_rectangle(draw, rollout.scene.screen, scale, fill=_SCREEN_RGB)
    return np.asarray(image.reduce(_OVERSAMPLING))  # (256, 256) -> (128, 128, 3)


def render_masks(rollout: Rollout, time: float) -> dict[str, NDArray[np.bool_]]:
    """The visible pixels of each body at ``time``, by colour; bodies out of sight are left out.

    A pixel belongs to the body whose outline covers its centre; of two, to the one drawn later;
    behind the screen to none.
    """
    # A picture of numbers, in which later ones cover earlier ones as in the frame; 0 is nobody.
    owners = Image.new("L", (FRAME_SIZE, FRAME_SIZE), 0)
    draw = ImageDraw.Draw(owners)
    scale = _PIXELS_PER_UNIT
    for number, body in enumerate(rollout.scene.bodies, start=1):
        x, y, _, _ = rollout.state(body.color, time)
        _draw_body(draw, body, x * scale, y * scale, RADIUS * scale, fill=number)
    _draw_rectangle(draw, rollout.scene.screen, scale, fill=0)
    numbers = np.asarray(owners)
    masks = {
        body.color: numbers == number for number, body in enumerate(rollout.scene.bodies, start=1)
    }
    return {color: mask for color, mask in masks.items() if mask.any()}


def render_bars(rollout: Rollout) -> dict[str, NDArray[np.bool_]]:
    """The pixels of the ``wall`` and of the ``screen``, objects in front of the wall included.

    The screen hides what is behind it; what is not there is left out.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, bar in (("screen", rollout.scene.screen), ("wall", rollout.scene.wall)):
        image = Image.new("1", (FRAME_SIZE, FRAME_SIZE), 0)
        _draw_rectangle(ImageDraw.Draw(image), bar, _PIXELS_PER_UNIT, fill=1)
        mask = np.asarray(image, dtype=bool)
        if name == "wall" and "screen" in masks:
            mask = mask & ~masks["screen"]
        if mask.any():
            masks[name] = mask
    return masks


def write_video(rollout: Rollout, path: Path) -> None:
    """Write the rollout's first ``VIDEO_SECONDS`` as an H.264 mp4 file, whole or not at all."""
    # Not by atomic_file, which waits for the disk: there are thousands of them.
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), mode="w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        # One thread: the same bytes on every machine.
        stream.options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        for number, time in enumerate(frame_times()):
            frame = av.VideoFrame.from_ndarray(render_frame(rollout, float(time)), format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))  # what the encoder has held back
    partial.replace(path)


def _draw_rectangle(
    draw: ImageDraw.ImageDraw,
    rectangle: Rectangle | None,
    scale: float,
    fill: tuple[int, int, int] | int,
) -> None:
    if rectangle is not None:
        edges = (rectangle.left, rectangle.top, rectangle.right, rectangle.bottom)
        draw.rectangle([scale * edge for edge in edges], fill=fill)


def _draw_body(
    draw: ImageDraw.ImageDraw,
    body: Body,
    x: float,
    y: float,
    radius: float,
    fill: tuple[int, int, int] | int,
) -> None:
    if body.shape == "circle":
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
    elif body.shape == "square":
        # Its area is about that of the circle.
        draw.polygon(_corners(x, y, 1.25 * radius, (45, 135, 225, 315)), fill=fill)
    else:
        # One corner at the top: angles go clockwise from the right, as y grows downwards.
        draw.polygon(_corners(x, y, 1.15 * radius, (270, 30, 150)), fill=fill)


def _corners(
    x: float, y: float, radius: float, degrees: Sequence[float]
) -> list[tuple[float, float]]:
    return [
        (x + radius * math.cos(math.radians(a)), y + radius * math.sin(math.radians(a)))
        for a in degrees
    ]
