"""From a decoded picture to the displayed one: upright, of square pixels, in the size wanted."""

import io
import warnings
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.sidedata import sidedata
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vidreason.video.failures import VideoReadError
from vidreason.video.limits import MAX_PIXELS

MAX_PIXEL_ASPECT = 16
"""A pixel that is said to be this many times as wide as high, or as high as wide, is a mistake of
the file. Anamorphic films have 2."""


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """The flip, and then the turn, from the coded picture to the displayed one."""

    mirrored: bool = False
    """True if left and right are exchanged."""
    quarter_turns: int = 0
    """Turns by 90 degrees counterclockwise, 0 to 3."""

    def display(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The displayed form of a coded ``picture`` of shape ``(H, W, 3)``, as a view."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.quarter_turns)

    def turned(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the turn, or before it: of the displayed or the coded picture."""
        return (height, width) if self.quarter_turns % 2 else (width, height)


class PictureConverter:
    """Turns decoded frames into displayed RGB pictures of one size.

    Args:
        width: Of the displayed pictures, in pixels.
        height: Of the displayed pictures, in pixels.
        orientation: Of the coded pictures.
    """

    def __init__(self, width: int, height: int, orientation: Orientation) -> None:
        self._width, self._height = orientation.turned(width, height)
        self._orientation = orientation
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """RGB ``(H, W, 3)`` as displayed; a frame of another size is scaled, as players do."""
        is_same = (frame.width, frame.height) == (self._width, self._height)
        converted = self._reformatter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb24",
            # The mean over the area that becomes a pixel, so that a smaller picture has no aliases.
            interpolation="BILINEAR" if is_same else "AREA",
            threads=1,
        )
        return self._orientation.display(cast("NDArray[np.uint8]", converted.to_ndarray()))


def display_orientation(path: str, frame: VideoFrame) -> Orientation:
    """Read the display matrix that libav attaches to ``frame``; without one the frame is upright.

    It comes from the container, or from the EXIF orientation of an image.

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


def displayed_size(
    width: int, height: int, pixel_aspect: Fraction | None, orientation: Orientation
) -> tuple[int, int]:
    """Width and height of the displayed picture, in square pixels.

    Args:
        width: Of the coded picture, in its own pixels.
        height: Of the coded picture.
        pixel_aspect: How many times as wide as high its pixels are; 0 or None where unknown.
        orientation: How it is turned for display.
    """
    aspect = pixel_aspect or Fraction(1)
    if 1 / Fraction(MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT:
        width = max(round(width * aspect), 1)
    return orientation.turned(width, height)


def limited_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Width and height with the longer side at most ``max_side`` pixels, of the same aspect."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def check_num_pixels(path: str, width: int, height: int) -> None:
    """Raise a ``VideoReadError`` if pictures of this size are too large to be decoded."""
    if width * height > MAX_PIXELS:
        raise VideoReadError(
            path,
            "unsupported",
            f"its pictures have {width} x {height} pixels, and at most {MAX_PIXELS:,} are decoded",
        )


def check_image_size(path: str, data: bytes) -> None:
    """Raise a ``VideoReadError`` if ``data`` is an image that claims too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:  # reads nothing but its header
                width, height = image.size
    except Image.DecompressionBombError as error:
        detail = f"its pictures are too large, at most {MAX_PIXELS:,} pixels are decoded: {error}"
        raise VideoReadError(path, "unsupported", detail) from error
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError):
        return  # no image that Pillow knows: nothing is claimed
    check_num_pixels(path, width, height)


def _know_every_kind() -> None:
    """Let PyAV list side data of kinds that it has no name for.

    PyAV 18.1 has no names for kinds that its FFmpeg 8.1 attaches (31 is EXIF), and then refuses to
    list any side data of a frame, the display matrix too.
    """

    def nameless(cls: type[Enum], value: object) -> Enum | None:
        if not isinstance(value, int):
            return None
        kind = object.__new__(cls)
        kind._name_, kind._value_ = f"KIND_{value}", value
        return kind

    # The hook of enumerations for values without a member.
    kinds: Any = sidedata.Type
    kinds._missing_ = classmethod(nameless)


_know_every_kind()
