"""Pictures as MCVD takes and gives them: small squares, from -1 to 1 or 0 to 1.

The official UCF-101 set has frames resized to a height of 64 pixels by Pillow's LANCZOS filter, of
which a square is cut (voletiv/mcvd-pytorch@451da2e, ``datasets/ucf101.py``); here the filter is the
bilinear one.
"""

import torch
from torch import Tensor
from torch.nn import functional

from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.video.transforms import FrameTransform

_GREY = (0.299, 0.587, 0.114)
"""Shares of R, G, B in a grey value (ITU-R BT.601)."""


def shrink(frames: Tensor, side: int) -> Tensor:
    """Bring frames to a model's side: the shorter side is resized, the middle square cut out.

    Args:
        frames: ``(n, 3, H, W)`` uint8.
        side: In pixels.

    Returns:
        ``(n, 3, side, side)`` uint8.
    """
    transform = FrameTransform(size=side, short_side=side, interpolation="antialiased-bilinear")
    return transform.resize(frames).round().clamp(0, 255).to(torch.uint8)


def enlarge(frames: Tensor, height: int, width: int) -> Tensor:
    """Bring square frames to the size of the middle square of larger ones.

    Args:
        frames: ``(n, 3, S, S)`` uint8.
        height: Of the larger frames.
        width: Of the larger frames.

    Returns:
        ``(n, 3, s, s)`` uint8, with s the smaller of ``height`` and ``width``.
    """
    side = min(height, width)
    resized = functional.interpolate(
        frames.float(), size=(side, side), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.round().clamp(0, 255).to(torch.uint8)


def to_model_range(frames: Tensor, config: DiffusionConfig) -> Tensor:
    """Turn ``(..., 3, S, S)`` uint8 RGB into the model's channels, floats from -1 to 1."""
    values = frames.float() / 127.5 - 1
    if config.channels == 1:
        # (3, 1, 1): a weighted sum over the colours, (..., 1, S, S)
        weights = torch.tensor(_GREY, device=values.device)[:, None, None]
        values = (values * weights).sum(dim=-3, keepdim=True)
    return values


def to_rgb(frames: Tensor) -> Tensor:
    """Turn ``(..., channels, S, S)`` floats from 0 to 1 into ``(..., 3, S, S)`` uint8 RGB."""
    values = (frames * 255).round().clamp(0, 255).to(torch.uint8)
    # A grey picture has the same value in all three colours, without a copy.
    return values.expand(*values.shape[:-3], 3, *values.shape[-2:])
