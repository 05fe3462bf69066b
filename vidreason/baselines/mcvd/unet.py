"""MCVD's UNet: the noise in stacked frames, from the frames before and after them.

Written from the equations of voletiv/mcvd-pytorch@451da2e (MIT),
``models/better/ncsnpp_more.py``; its state dict has the keys of the released checkpoints, where all
layers stand in one list, in the order in which they are used.

Shapes: B batch, S side of a frame; frames are stacked along the channels, frame by frame.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.layers import (
    AttentionBlock,
    NormAndActivation,
    ResidualBlock,
    embed_noise_levels,
    initialised_convolution,
    initialised_linear,
)


class UNet(nn.Module):
    """Predict the noise in frames."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # Frames that the network is shown, and frames that it takes the noise from, as channels.
        shown = config.num_condition_frames * config.channels
        denoised = config.num_frames * config.channels
        norm = partial(
            NormAndActivation,
            condition_channels=shown if config.spatial_norm else None,
            hidden=config.spatial_norm_width,
        )
        block = partial(
            ResidualBlock,
            level_width=4 * width,
            condition_channels=shown if config.spatial_norm else None,
            hidden=config.spatial_norm_width,
            dropout=config.dropout,
        )
        attention = partial(AttentionBlock, head_channels=config.head_channels)
        channels = width
        layers: list[nn.Module] = [
            # The noise level's two layers, and the entry.
            initialised_linear(width, 4 * width),
            initialised_linear(4 * width, 4 * width),
            initialised_convolution(denoised + (0 if config.spatial_norm else shown), width),
        ]
        # Down: the channels of each feature map that the way up is given again.
        skips = [width]
        for depth, multiplier in enumerate(config.multipliers):
            for _ in range(config.num_blocks):
                layers.append(block(channels, multiplier * width))
                channels = multiplier * width
                if self._attends(depth):
                    layers.append(attention(channels))
                skips.append(channels)
            if depth < self._deepest:
                layers.append(block(channels, channels, resampling="down"))
                skips.append(channels)
        # Middle.
        layers += [block(channels, channels), attention(channels), block(channels, channels)]
        # Up.
        for depth in reversed(range(len(config.multipliers))):
            for _ in range(config.num_blocks + 1):
                layers.append(block(channels + skips.pop(), config.multipliers[depth] * width))
                channels = config.multipliers[depth] * width
            if self._attends(depth):
                layers.append(attention(channels))
            if depth:
                layers.append(block(channels, channels, resampling="up"))
        layers += [norm(channels, None), initialised_convolution(channels, denoised, scale=0.0)]
        self.all_modules = nn.ModuleList(layers)

    def forward(self, frames: Tensor, levels: Tensor, condition: Tensor) -> Tensor:
        """Predict the noise in frames.

        Args:
            frames: ``(B, num_frames * channels, S, S)`` floats, around -1..1 with noise.
            levels: ``(B,)`` noise level of each sample, 0 the noisiest.
            condition: ``(B, num_condition_frames * channels, S, S)`` from -1 to 1, past then future
                frames; zeros where they are masked.

        Returns:
            The shape of ``frames``.

        Raises:
            ValueError: ``frames`` or ``condition`` has another shape.
        """
        self._check(frames, condition)
        layers = iter(self.all_modules)
        # (B,) -> (B, width) -> (B, 4 * width)
        embedding = embed_noise_levels(levels, self.config.width).to(self.dtype)
        embedding = next(layers)(embedding)
        level = next(layers)(functional.silu(embedding))
        # Down.
        # The shown frames enter beside the others, or by the norms alone.
        inputs = frames if self.config.spatial_norm else torch.cat([frames, condition], dim=1)
        features = next(layers)(inputs)  # (B, width, S, S)
        skips = [features]
        for depth in range(len(self.config.multipliers)):
            for _ in range(self.config.num_blocks):
                features = next(layers)(features, level, condition)
                if self._attends(depth):
                    features = next(layers)(features)
                skips.append(features)
            if depth < self._deepest:
                features = next(layers)(features, level, condition)
                skips.append(features)
        # Middle.
        features = next(layers)(features, level, condition)
        features = next(layers)(features)
        features = next(layers)(features, level, condition)
        # Up.
        for depth in reversed(range(len(self.config.multipliers))):
            for _ in range(self.config.num_blocks + 1):
                features = torch.cat([features, skips.pop()], dim=1)  # (B, C + C', H, W)
                features = next(layers)(features, level, condition)
            if self._attends(depth):
                features = next(layers)(features)
            if depth:
                features = next(layers)(features, level, condition)
        features = next(layers)(features, condition)
        noise: Tensor = next(layers)(features)  # (B, num_frames * channels, S, S)
        return noise

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of its weights."""
        weight = self.all_modules[0].weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    @property
    def _deepest(self) -> int:
        return len(self.config.multipliers) - 1

    def _attends(self, depth: int) -> bool:
        return self.config.image_size // 2**depth in self.config.attention_sides

    def _check(self, frames: Tensor, condition: Tensor) -> None:
        side = self.config.image_size
        for name, tensor, count in (
            ("frames", frames, self.config.num_frames),
            ("condition", condition, self.config.num_condition_frames),
        ):
            expected = (len(frames), count * self.config.channels, side, side)
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"{name}: expected shape {expected} = (batch, frames * channels, image_size, "
                    f"image_size), found {tuple(tensor.shape)}"
                )
