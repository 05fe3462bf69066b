"""Position embeddings for frame counts and resolutions other than those of a checkpoint.

The rules are those of the official training code (InternVideo:InternVideo1/Pretrain/ViCLIP, commit
3965eef16e2d): time linearly or cut off, space bicubically with the [CLS] row kept.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def resize_frame_embeddings(embeddings: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Fit ``(1, F, D)`` embeddings of frames to ``shape``, ``(1, F', D)``.

    More frames are interpolated linearly, fewer are the first ones; one alone is the mean of all,
    which is what the official model adds to a single image.
    """
    num_frames = shape[1]
    if num_frames == 1:
        return embeddings.mean(dim=1, keepdim=True)
    if num_frames <= embeddings.shape[1]:
        return embeddings[:, :num_frames].clone()
    along_time = embeddings.float().transpose(1, 2)  # (1, F, D) -> (1, D, F)
    resized = functional.interpolate(along_time, size=num_frames, mode="linear")
    return resized.transpose(1, 2).to(embeddings.dtype)  # (1, D, F') -> (1, F', D)


def resize_patch_embeddings(embeddings: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Fit ``(1 + h * h, D)`` embeddings, [CLS] first, to ``shape``, ``(1 + h' * h', D)``.

    Raises:
        ValueError: Either is not a [CLS] row and a square grid.
    """
    old_side, new_side = (math.isqrt(rows - 1) for rows in (len(embeddings), shape[0]))
    if (1 + old_side**2, 1 + new_side**2) != (len(embeddings), shape[0]):
        raise ValueError(
            f"positional embedding: expected a [CLS] row and a square grid of rows to resize, found"
            f" {len(embeddings)} rows for {shape[0]}; check the file and the configured sizes"
        )
    # (h * h, D) -> (1, h' * h', D), then the [CLS] row in front: (1 + h' * h', D)
    resized = _resize_grid(embeddings[None, 1:], old_side, new_side)
    return torch.cat([embeddings[:1], resized[0]])


def sine_cosine_embeddings(
    num_slots: int, side: int, width: int, *, released_slots: int, released_side: int
) -> Tensor:
    """VideoMAE's fixed table (its ``get_sinusoid_encoding_table``), for any number and size.

    Position is the flat index k over time, rows and columns of the released grid; entry 2i is
    ``sin(k / 10000 ** (2i / D))``, entry 2i + 1 the cosine of the same. Another grid gets it
    resized.

    Args:
        num_slots: Positions along time, which is frames / tubelet_size.
        side: Side of the patch grid.
        width: D.
        released_slots: Positions along time of the model that was trained.
        released_side: Side of its patch grid.

    Returns:
        ``(num_slots * side * side, D)`` float32.
    """
    positions = torch.arange(released_slots * released_side**2, dtype=torch.float64)[:, None]
    exponents = torch.arange(width, dtype=torch.float64).div(2, rounding_mode="floor") * 2 / width
    angles = positions / 10000**exponents  # (k, 1) / (D,) -> (k, D)
    table = torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos()).float()
    grid = table.view(released_slots, released_side**2, width)  # (slots, side * side, D)
    grid = _resize_grid(grid, released_side, side)
    by_position = grid.permute(1, 0, 2)  # (slots, side * side, D) -> (side * side, slots, D)
    if num_slots <= released_slots:
        by_position = by_position[:, :num_slots]
    else:
        # Linear along time: (side * side, slots, D) -> (side * side, D, slots), and back
        by_position = functional.interpolate(
            by_position.transpose(1, 2), size=num_slots, mode="linear"
        ).transpose(1, 2)
    # (side * side, slots, D) -> (slots * side * side, D)
    return by_position.permute(1, 0, 2).reshape(-1, width)


def _resize_grid(rows: Tensor, old_side: int, new_side: int) -> Tensor:
    """``(n, old * old, D)`` to ``(n, new * new, D)``, bicubically; unchanged if nothing changes."""
    if old_side == new_side:
        return rows
    # (n, old * old, D) -> (n, D, old, old), and back
    grid = rows.float().view(len(rows), old_side, old_side, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(new_side, new_side), mode="bicubic")
    return grid.flatten(2).transpose(1, 2).to(rows.dtype)
