"""Masks of pre-training: blocks of patches over time that are hidden, and what is left.

After facebookresearch/vjepa2@c2963a4, src/masks/multiseq_multiblock3d.py: a batch has one size of
block, each clip has positions of its own, and masks are cut to the shortest of a batch.

Shapes: B clips, T x h x w the grid of tokens.
"""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from vidreason.baselines.vjepa2.config import MaskBlocks

_MAX_DRAWS = 1000  # blocks that hide everything are drawn again, and not for ever


class Masks(NamedTuple):
    """Positions of tokens, as ``(tubelet * h + row) * w + column``, in rising order."""

    visible: Tensor
    """``(B, C)`` int64: tokens that the encoder sees."""
    hidden: Tensor
    """``(B, P)`` int64: tokens whose latents are predicted."""


def draw_masks(
    blocks: MaskBlocks, grid: tuple[int, int, int], batch_size: int, generator: torch.Generator
) -> Masks:
    """Draw the masks of a batch.

    Args:
        blocks: Number and sizes of the blocks.
        grid: ``(T, h, w)``.
        batch_size: Number of clips B.
        generator: On the CPU; decides everything that is drawn.

    Raises:
        ValueError: The blocks always hide the whole clip.
    """
    size = _block_size(blocks, grid, generator)
    pairs = [_draw_clip(blocks, grid, size, generator) for _ in range(batch_size)]
    # Clips of a batch have as many tokens each: what is longer is cut off at its end.
    num_visible = min(len(visible) for visible, _ in pairs)
    num_hidden = min(len(hidden) for _, hidden in pairs)
    return Masks(
        visible=torch.stack([visible[:num_visible] for visible, _ in pairs]),
        hidden=torch.stack([hidden[:num_hidden] for _, hidden in pairs]),
    )


def _block_size(
    blocks: MaskBlocks, grid: tuple[int, int, int], generator: torch.Generator
) -> tuple[int, int, int]:
    """Length, height and width of a block in tokens, by the scales and a drawn aspect ratio."""
    length, height, width = grid
    low, high = blocks.lowest_aspect_ratio, blocks.highest_aspect_ratio
    aspect = low + float(torch.rand(1, generator=generator)) * (high - low)
    # From area and aspect ratio to the sides: height * width = area, height / width = aspect
    area = int(height * width * blocks.spatial_scale)
    return (
        max(1, int(length * blocks.temporal_scale)),
        min(max(1, round(sqrt(area * aspect))), height),
        min(max(1, round(sqrt(area / aspect))), width),
    )


def _draw_clip(
    blocks: MaskBlocks,
    grid: tuple[int, int, int],
    size: tuple[int, int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    for _ in range(_MAX_DRAWS):
        is_visible = torch.ones(grid, dtype=torch.bool)
        for _ in range(blocks.num_blocks):
            # A corner from which the block stays within the clip.
            start = [
                int(torch.randint(whole - part + 1, (1,), generator=generator))
                for whole, part in zip(grid, size, strict=True)
            ]
            block = tuple(slice(s, s + part) for s, part in zip(start, size, strict=True))
            is_visible[block] = False
        # Numbers of tokens in the encoder's order: (T, h, w) -> (tokens,)
        visible = is_visible.flatten().nonzero()[:, 0]
        if len(visible):
            return visible, (~is_visible).flatten().nonzero()[:, 0]
    raise ValueError(
        f"pretraining.masks: {blocks.num_blocks} blocks of {size} tokens hide the whole clip of "
        f"{grid}; lower spatial_scale, temporal_scale or num_blocks"
    )
