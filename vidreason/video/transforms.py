"""From decoded frames to what a video encoder takes, and the geometry that masks need to follow.

Each encoder has preprocessing of its own: ViCLIP squashes a frame to a square without keeping its
aspect, bilinearly and without antialiasing (InternVideo:Data/InternVid/viclip/__init__.py, commit
3965eef16e2d); others bring the short side to a length and cut a square out of the centre.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of R, G, B in [0, 1]
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # the same
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of R, G, B in [0, 1]
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)  # the same

Interpolation = Literal["bilinear", "antialiased-bilinear", "antialiased-bicubic"]


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """Bring frames to ``size`` x ``size`` pixels and normalise them.

    The frame is first resized: to the square itself (a squash, where ``short_side`` is None), or to
    ``short_side`` with its aspect kept. The resize maps the source rectangle ``[0, W] x [0, H]``
    linearly, and each axis on its own, onto the resized one (pixel i covers ``[i, i + 1]``). Then
    the square is cut from its centre. So a patch of the square is a rectangle of the source, whose
    edges :meth:`patch_edges` gives, and the share of a mask that falls in each patch is a product
    over the axes. What a crop cuts off lies in no patch.
    """

    size: int = 224
    """Side of the square in pixels."""
    short_side: int | None = None
    """Length in pixels that the frame's shorter side is resized to before the square is cut from
    the centre; None squashes the whole frame to the square."""
    crop_rounding: Literal["nearest", "down"] = "nearest"
    """How half of an odd number of surplus pixels is rounded: to the nearest even number as the
    official video models do, or down as the image processors of transformers do."""
    interpolation: Interpolation = "bilinear"
    """``bilinear`` looks at the four nearest pixels, as cv2 does. The antialiased ones are Pillow's
    filters, which widen as the frame shrinks; values may be one grey level from Pillow's."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of R, G, B in 0..1."""
    std: tuple[float, float, float] = IMAGENET_DEVIATION

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, found {self.size}")
        if self.short_side is not None and self.short_side < self.size:
            raise ValueError(
                f"short_side must be at least size = {self.size}, which is cut from it, found "
                f"{self.short_side}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0 in each channel, found {self.std}")

    def apply(self, frames: Tensor) -> Tensor:
        """Transform ``(n, 3, H, W)`` uint8 RGB to ``(n, 3, size, size)`` float32, same device.

        Raises:
            ValueError: ``frames`` has another shape or type.
        """
        if frames.dim() != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
            raise ValueError(
                f"frames must be uint8 of shape (n, 3, H, W), found {frames.dtype} of shape "
                f"{tuple(frames.shape)}"
            )
        # A value for each channel, for every pixel: (3,) -> (3, 1, 1)
        mean = torch.tensor(self.mean, device=frames.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=frames.device).view(3, 1, 1)
        return (self.resize(frames) / 255 - mean) / std

    def resize(self, frames: Tensor) -> Tensor:
        """Resize and crop ``(n, 3, H, W)`` uint8 to ``(n, 3, size, size)`` float32 in 0..255."""
        if self.interpolation == "bilinear":
            return self._interpolate(frames)
        rows, columns = self._crop(*frames.shape[2:])
        mode = self.interpolation.removeprefix("antialiased-")
        # Torch filters bytes as Pillow does, rounding after each axis, but on CPU only.
        if frames.device.type == "cpu":
            resized = functional.interpolate(
                frames, size=(rows.resized, columns.resized), mode=mode, antialias=True
            )
        else:
            resized = functional.interpolate(
                frames.float(), size=(rows.resized, columns.resized), mode=mode, antialias=True
            )
            resized = resized.round().clamp(0, 255)
        top, left = rows.offset, columns.offset
        return resized[:, :, top : top + self.size, left : left + self.size].float()

    def patch_edges(self, height: int, width: int, patch_size: int) -> tuple[Tensor, Tensor]:
        """Edges of the encoder's patches in source pixels, along both axes.

        Args:
            height: Height of the source frame.
            width: Width of the source frame.
            patch_size: Side of a patch in pixels of the square.

        Returns:
            Row edges and column edges, each ``(size / patch_size + 1,)`` float64 and evenly spaced:
            patch row r covers the source pixels between ``rows[r]`` and ``rows[r + 1]``, the outer
            ones in part. They go from 0 to the length of the axis where nothing is cut off, and
            begin and end inside the frame where something is.

        Raises:
            ValueError: ``patch_size`` does not divide ``size``.
        """
        if patch_size < 1 or self.size % patch_size:
            raise ValueError(f"patch_size must divide size = {self.size}, found {patch_size}")
        pixels = torch.arange(0, self.size + 1, patch_size, dtype=torch.float64)
        rows, columns = (
            (pixels + axis.offset) * axis.length / axis.resized
            for axis in self._crop(height, width)
        )
        return rows, columns

    def _crop(self, height: int, width: int) -> tuple["_Axis", "_Axis"]:
        """Length of each axis after the resize, and the start of the square on it."""
        if self.short_side is None:
            return _Axis(height, self.size, 0), _Axis(width, self.size, 0)
        short = min(height, width)
        axes = []
        for length in (height, width):
            resized = int(self.short_side * length / short)
            rest = resized - self.size
            offset = rest // 2 if self.crop_rounding == "down" else round(rest / 2)
            axes.append(_Axis(length, resized, offset))
        return axes[0], axes[1]

    def _interpolate(self, frames: Tensor) -> Tensor:
        rows, columns = self._crop(*frames.shape[2:])
        rows_above, rows_below, row_weights = self._neighbours(rows, frames.device)
        left, right, column_weights = self._neighbours(columns, frames.device)
        # Only the pixels that are looked at become float: a large frame costs hardly more than a
        # small one. Whole pixels are picked, which lie together as the reader gives them.
        num_frames, _, height, width = frames.shape
        # (n, 3, H, W) -> (n, H * W, 3)
        pixels = frames.permute(0, 2, 3, 1).reshape(num_frames, height * width, 3)

        def pick(rows: Tensor, columns: Tensor) -> Tensor:
            # Positions in the flat frame: (S, 1) and (S,) -> (S, S) -> (S * S,)
            indices = (rows[:, None] * width + columns).flatten()
            picked = pixels.index_select(1, indices)
            return picked.view(num_frames, self.size, self.size, 3).float()

        # Between the two columns, then between the two rows: (n, S, S, 3) -> (n, 3, S, S)
        column_weights = column_weights[:, None]
        top = torch.lerp(pick(rows_above, left), pick(rows_above, right), column_weights)
        bottom = torch.lerp(pick(rows_below, left), pick(rows_below, right), column_weights)
        return torch.lerp(top, bottom, row_weights[:, None, None]).permute(0, 3, 1, 2)

    def _neighbours(self, axis: "_Axis", device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The two source pixels around each target pixel's centre, and the second's weight."""
        targets = torch.arange(self.size, dtype=torch.float64) + axis.offset
        centres = ((targets + 0.5) * axis.length / axis.resized - 0.5).clamp(0, axis.length - 1)
        first = centres.long()
        second = (first + 1).clamp(max=axis.length - 1)
        return first.to(device), second.to(device), (centres - first).float().to(device)


@dataclass(frozen=True)
class _Axis:
    """One axis of a frame: its length, that after the resize, and where the square begins there."""

    length: int
    resized: int
    offset: int
