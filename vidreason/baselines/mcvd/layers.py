"""Layers of MCVD's UNet, under the names that released checkpoints give them.

Written from the equations of voletiv/mcvd-pytorch@451da2e (MIT), ``models/better``.

Shapes: B batch, C channels, H height, W width, D width of the noise level's embedding.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Resampling = Literal["none", "down", "up"]

_SMALLEST_SCALE = 1e-10
"""Scale of the initial weights of layers that contribute nothing at first."""
_MAX_PERIOD = 10_000  # levels, the longest wave; the official code's


def embed_noise_levels(levels: Tensor, width: int) -> Tensor:
    """Embed noise levels by sines and cosines.

    Args:
        levels: ``(B,)`` of any dtype.
        width: Of the embedding, at least 4; an odd one ends with a zero.

    Returns:
        ``(B, width)`` float32: sines, then cosines.
    """
    half = width // 2
    # In this order of rounding: sines of numbers up to 1000 show it.
    decay = -math.log(_MAX_PERIOD) / (half - 1)
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=levels.device) * decay)
    angles = levels.float()[:, None] * rates  # (B, 1) * (half,)
    # (B, 2 half), and a zero where the width is odd
    return functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def upsample(frames: Tensor) -> Tensor:
    """Double the side of ``(B, C, H, W)`` by the filter [1, 3, 3, 1]; the outside is zero."""
    channels = frames.shape[1]
    # Zeros between the pixels, then the filter: what the transposed convolution does.
    return functional.conv_transpose2d(
        frames, _filter(frames, gain=4.0), stride=2, padding=1, groups=channels
    )


def downsample(frames: Tensor) -> Tensor:
    """Halve the side of ``(B, C, H, W)`` by the filter [1, 3, 3, 1]; the outside is zero."""
    channels = frames.shape[1]
    return functional.conv2d(
        frames, _filter(frames, gain=1.0), stride=2, padding=1, groups=channels
    )


def _filter(frames: Tensor, gain: float) -> Tensor:
    """The two-dimensional filter for each channel, ``(C, 1, 4, 4)``, which sums to ``gain``."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=frames.dtype, device=frames.device)
    # The taps sum to 8 along each axis; upsampling needs twice that, for the zeros between pixels.
    kernel = torch.outer(taps, taps) * (gain / 64)
    return kernel.expand(frames.shape[1], 1, 4, 4)


def group_norm(channels: int, *, eps: float, affine: bool) -> nn.GroupNorm:
    """Return a norm over groups of at least 4 channels, at most 32 groups of equal size."""
    # The most groups that divide the channels evenly.
    groups = min(channels // 4, 32)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=eps, affine=affine)


def initialised_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with the authors' initial weights."""
    layer = nn.Linear(inputs, outputs)
    _initialise(layer.weight, 1.0)
    nn.init.zeros_(layer.bias)
    return layer


def initialised_convolution(
    inputs: int, outputs: int, side: int = 3, scale: float = 1.0
) -> nn.Conv2d:
    """Return a convolution that keeps height and width, with the authors' initial weights."""
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    _initialise(layer.weight, scale)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _initialise(weight: Tensor, scale: float) -> None:
    """Draw weights evenly, with variance ``scale`` over the mean of fan-in and fan-out."""
    nn.init.xavier_uniform_(weight, gain=max(scale, _SMALLEST_SCALE) ** 0.5)


class SpatialNorm(nn.Module):
    """A norm whose scale and shift at each pixel come from the frames that are shown (SPATIN)."""

    def __init__(self, channels: int, condition_channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, eps=1e-6, affine=False)
        # The official layer is followed by its activation, as in a Sequential.
        self.mlp_shared = nn.Sequential(initialised_convolution(condition_channels, hidden))
        self.mlp_gamma = initialised_convolution(hidden, channels)
        self.mlp_beta = initialised_convolution(hidden, channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Norm ``(B, C, H, W)`` under frames ``(B, frames * channels, side, side)``."""
        # The frames at the side of the features: (B, frames * channels, H, W)
        shown = functional.interpolate(condition, size=features.shape[-2:], mode="nearest")
        hidden = functional.silu(self.mlp_shared(shown))
        scale, shift = self.mlp_gamma(hidden), self.mlp_beta(hidden)
        scaled: Tensor = self.norm(features) * (1 + scale) + shift  # (B, C, H, W) each
        return scaled


class NormAndActivation(nn.Module):
    """A norm, scaled and shifted by the noise level where it has an embedding, and SiLU.

    Args:
        channels: C.
        level_width: D; None for a norm with weights of its own.
        condition_channels: Channels of the frames that a :class:`SpatialNorm` is shown; None for a
            plain norm over groups.
        hidden: Hidden channels of the former.
    """

    def __init__(
        self, channels: int, level_width: int | None, condition_channels: int | None, hidden: int
    ) -> None:
        super().__init__()
        if level_width is not None:
            self.Dense_0 = initialised_linear(level_width, 2 * channels)
        self.spatial = condition_channels is not None
        self.Norm_0: nn.Module
        if condition_channels is None:
            self.Norm_0 = group_norm(channels, eps=1e-5, affine=level_width is None)
        else:
            self.Norm_0 = SpatialNorm(channels, condition_channels, hidden)

    def forward(self, features: Tensor, condition: Tensor, level: Tensor | None = None) -> Tensor:
        """Norm and activate ``(B, C, H, W)``, at noise levels ``(B, D)``."""
        normalised: Tensor
        normalised = self.Norm_0(features, condition) if self.spatial else self.Norm_0(features)
        if level is not None:
            # (B, D) -> (B, 2 * C, 1, 1) -> scale and shift (B, C, 1, 1)
            scale, shift = self.Dense_0(functional.silu(level))[:, :, None, None].chunk(2, dim=1)
            normalised = normalised * (1 + scale) + shift
        return functional.silu(normalised)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which may halve or double height and width (BigGAN).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        level_width: D.
        condition_channels: As in :class:`NormAndActivation`.
        hidden: As there.
        dropout: Between the convolutions.
        resampling: Of height and width, after the first norm.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        level_width: int,
        condition_channels: int | None,
        hidden: int,
        dropout: float,
        resampling: Resampling = "none",
    ) -> None:
        super().__init__()
        self.resampling = resampling
        self.actnorm0 = NormAndActivation(inputs, level_width, condition_channels, hidden)
        self.Conv_0 = initialised_convolution(inputs, outputs)
        self.actnorm1 = NormAndActivation(outputs, level_width, condition_channels, hidden)
        self.Dropout_0 = nn.Dropout(dropout)
        # A scale of 0: at first a block passes its shortcut on, nearly alone.
        self.Conv_1 = initialised_convolution(outputs, outputs, scale=0.0)
        self.has_convolved_shortcut = inputs != outputs or resampling != "none"
        if self.has_convolved_shortcut:
            self.Conv_2 = initialised_convolution(inputs, outputs, side=1)

    def forward(self, features: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Turn ``(B, inputs, H, W)`` into ``(B, outputs, H', W')``."""
        shortcut = self._resample(features)
        hidden = self._resample(self.actnorm0(features, condition, level))
        hidden = self.actnorm1(self.Conv_0(hidden), condition, level)
        hidden = self.Conv_1(self.Dropout_0(hidden))
        if self.has_convolved_shortcut:
            shortcut = self.Conv_2(shortcut)
        # Two signals of equal variance: their sum is brought back to it.
        total: Tensor = (shortcut + hidden) / math.sqrt(2)
        return total

    def _resample(self, features: Tensor) -> Tensor:
        match self.resampling:
            case "up":
                return upsample(features)
            case "down":
                return downsample(features)
        return features


class PixelLinear(nn.Module):
    """The same linear layer at each pixel; its weight is ``(inputs, outputs)``."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, channels))
        self.b = nn.Parameter(torch.zeros(channels))
        _initialise(self.W, scale)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        # A convolution of side 1: (inputs, outputs) -> (outputs, inputs, 1, 1)
        return functional.conv2d(features, self.W.t()[:, :, None, None], self.b)


class AttentionBlock(nn.Module):
    """Attention of all pixels to all pixels, beside a shortcut.

    Args:
        channels: C.
        head_channels: Channels of a head; None for a single head, as where C is smaller.
    """

    def __init__(self, channels: int, head_channels: int | None) -> None:
        super().__init__()
        self.num_heads = max(channels // (head_channels or channels), 1)
        self.GroupNorm_0 = group_norm(channels, eps=1e-6, affine=True)
        self.NIN_0 = PixelLinear(channels, 0.1)
        self.NIN_1 = PixelLinear(channels, 0.1)
        self.NIN_2 = PixelLinear(channels, 0.1)
        self.NIN_3 = PixelLinear(channels, 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        hidden = self.GroupNorm_0(features)
        queries, keys, values = (
            self._by_head(layer(hidden)) for layer in (self.NIN_0, self.NIN_1, self.NIN_2)
        )
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        # (B, heads, H * W, C / heads) -> (B, C, H, W)
        attended = attended.transpose(2, 3).reshape(features.shape)
        mapped: Tensor = self.NIN_3(attended)
        return (features + mapped) / math.sqrt(2)

    def _by_head(self, features: Tensor) -> Tensor:
        batch, channels = features.shape[:2]
        # (B, C, H, W) -> (B, heads, C / heads, H * W) -> (B, heads, H * W, C / heads)
        split = features.reshape(batch, self.num_heads, channels // self.num_heads, -1)
        return split.transpose(2, 3)
