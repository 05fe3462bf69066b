"""From decoded frames to what a video encoder takes, and the geometry that masks need to follow.

ViCLIP squashes a frame to a square without keeping its aspect, bilinearly and without antialiasing,
scales to 0..1 and normalises with ImageNet's mean and deviation
(InternVideo:Data/InternVid/viclip/__init__.py, commit 3965eef16e2d).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """Squash frames to ``size`` x ``size`` pixels and normalise them.

    The squash maps the source rectangle ``[0, W] x [0, H]`` linearly, and each axis on its own,
    onto the square ``[0, size] x [0, size]`` (pixel i covers ``[i, i + 1]``). So a patch of the
    square is a rectangle of the source, whose edges :meth:`patch_edges` gives, and the share of a
    mask that falls in each patch is a product over the axes.
    """

    size: int = 224
    """Side of the square in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of R, G, B in 0..1."""
    std: tuple[float, float, float] = IMAGENET_DEVIATION

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, found {self.size}")
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
        mean = torch.tensor(self.mean, device=frames.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=frames.device).view(3, 1, 1)
        return (self.squash(frames) / 255 - mean) / std

    def squash(self, frames: Tensor) -> Tensor:
        """Resize ``(n, 3, H, W)`` uint8 to ``(n, 3, size, size)`` float32, still in 0..255."""
        rows_above, rows_below, row_weights = self._neighbours(frames.shape[2], frames.device)
        left, right, column_weights = self._neighbours(frames.shape[3], frames.device)
        # Only the rows and columns that are looked at become float: a large frame costs no more
        # than a small one.
        above, below = frames[:, :, rows_above], frames[:, :, rows_below]
        top = torch.lerp(above[..., left].float(), above[..., right].float(), column_weights)
        bottom = torch.lerp(below[..., left].float(), below[..., right].float(), column_weights)
        return torch.lerp(top, bottom, row_weights[:, None])

    def patch_edges(self, length: int, patch_size: int) -> Tensor:
        """Edges of the encoder's patches along one axis of the source, in source pixels.

        Args:
            length: Height or width of the source frame, whichever axis is asked for.
            patch_size: Side of a patch in pixels of the square.

        Returns:
            ``(size / patch_size + 1,)`` float64 from 0 to ``length``, evenly spaced: patch p covers
            the source pixels between ``edges[p]`` and ``edges[p + 1]``, the outer ones in part.

        Raises:
            ValueError: ``patch_size`` does not divide ``size``.
        """
        if patch_size < 1 or self.size % patch_size:
            raise ValueError(f"patch_size must divide size = {self.size}, found {patch_size}")
        num_patches = self.size // patch_size
        return torch.arange(num_patches + 1, dtype=torch.float64) * length / num_patches

    def _neighbours(self, length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The two source pixels around each target pixel's centre, and the second's weight."""
        centres = (torch.arange(self.size, dtype=torch.float64) + 0.5) * length / self.size - 0.5
        centres = centres.clamp(0, length - 1)
        first = centres.long()
        second = (first + 1).clamp(max=length - 1)
        return first.to(device), second.to(device), (centres - first).float().to(device)
