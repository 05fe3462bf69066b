"""Diffusion of frames: the loss that trains MCVD's UNet, and sampling from it.

Written from the equations of voletiv/mcvd-pytorch@451da2e (MIT), ``models/__init__.py``,
``losses/dsm.py`` and ``runners/ncsn_runner.py``. Noise levels count from the noisiest, 0. One
quirk is kept, since the released results have it: the last denoising asks the network with the
label L - 1, where L levels are visited, although the level visited last has another one wherever
fewer are visited than there are.

Shapes: B batch, S side of a frame; frames are stacked along the channels, frame by frame.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidreason.baselines.mcvd.config import DiffusionConfig, Sampler
from vidreason.baselines.mcvd.unet import UNet


class VideoDiffusion(nn.Module):
    """MCVD's UNet with its schedule of noise.

    Its state dict has the keys of the EMA part of a released checkpoint, ``unet.all_modules.*``.
    """

    alphas: Tensor
    betas: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config)
        # On the CPU also where the network is on the meta device: it is computed, not loaded.
        betas = torch.linspace(config.first_beta, config.last_beta, config.num_steps, device="cpu")
        self.register_buffer("betas", betas, persistent=False)
        # Of each level, the share of the frames' variance that is left, (num_steps,).
        alphas = torch.cumprod(1 - betas.flip(0), dim=0).flip(0)
        self.register_buffer("alphas", alphas, persistent=False)

    def forward(self, frames: Tensor, levels: Tensor, condition: Tensor) -> Tensor:
        """Predict the noise in frames, in their dtype; see :meth:`UNet.forward`."""
        dtype = self.unet.dtype
        noise: Tensor = self.unet(frames.to(dtype), levels, condition.to(dtype))
        return noise.to(frames.dtype)

    def loss(
        self, frames: Tensor, condition: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean squared error of the predicted noise, at a random level for each sample.

        The official loss is half the sum over a sample instead, which leaves Adam's steps the same.

        Args:
            frames: ``(B, num_frames * channels, S, S)`` from -1 to 1.
            condition: As in :meth:`UNet.forward`.
            generator: Draws levels and noise, on its own device; None for torch's.

        Returns:
            A scalar.
        """
        device = frames.device if generator is None else generator.device
        levels = torch.randint(
            0, self.config.num_steps, (len(frames),), generator=generator, device=device
        ).to(frames.device)
        noise = torch.randn(frames.shape, generator=generator, device=device).to(frames.device)
        alphas = self.alphas[levels][:, None, None, None]  # (B, 1, 1, 1)
        # Variances of frames and noise add up to 1 at each level.
        noisy = alphas.sqrt() * frames + (1 - alphas).sqrt() * noise
        difference: Tensor = self(noisy, levels, condition) - noise
        return difference.square().mean()

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        start: Tensor,
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Sample frames.

        Args:
            condition: As in :meth:`UNet.forward`.
            start: ``(B, num_frames * channels, S, S)`` of noise.
            sampler: ``ddpm`` adds noise in each step, ``ddim`` does not; None for the configured.
            steps: Noise levels to visit; None for the configured number. As in the official code,
                every n-th level is visited, with n the whole part of their number over this: where
                it does not divide, they are more.
            generators: Draw each sample's noise, so that it does not depend on the others; those of
                the CPU give the same noise on every device. None for torch's.

        Returns:
            The shape of ``start``, around -1..1.

        Raises:
            ValueError: ``steps`` is not from 1 to ``num_steps``, or as :meth:`UNet.forward`.
        """
        steps = self.config.sampling_steps if steps is None else steps
        if not 1 <= steps <= self.config.num_steps:
            raise ValueError(
                f"steps is {steps}; it must be from 1 to num_steps = {self.config.num_steps}"
            )
        levels = torch.arange(0, self.config.num_steps, self.config.num_steps // steps)
        alphas = self.alphas[levels.to(self.alphas.device)]
        # Levels run from the noisiest on; after the last one nothing is left of the noise.
        next_alphas = torch.cat([alphas[1:], alphas.new_ones(1)])
        # The two ways differ by rounding, which a thousand steps multiply.
        all_levels = steps == self.config.num_steps
        betas = self.betas if all_levels else 1 - alphas / next_alphas
        is_random = (sampler or self.config.sampler) == "ddpm"
        frames = start
        for index, level in enumerate(levels.tolist()):
            alpha, next_alpha = alphas[index], next_alphas[index]
            noise = self(frames, self._labels(level, frames), condition)
            # The frames that this noise would leave, at level alpha = 1.
            clean = (frames - (1 - alpha).sqrt() * noise) / alpha.sqrt()
            if self.config.clip:
                clean = clean.clamp(-1, 1)
            if is_random:
                beta = betas[index]
                # The mean at the next level, given the frames at this one and the clean ones.
                of_clean = next_alpha.sqrt() * beta / (1 - alpha)
                of_frames = (1 - beta).sqrt() * (1 - next_alpha) / (1 - alpha)
                frames = of_clean * clean + of_frames * frames
                if index < len(levels) - 1:
                    variance = (1 - next_alpha) / (1 - alpha) * beta
                    frames = frames + variance.sqrt() * _noise(frames, generators)
            else:
                frames = next_alpha.sqrt() * clean + (1 - next_alpha).sqrt() * noise
        # Once more, for noise of the last level that is still seen.
        if self.config.denoise:
            noise = self(frames, self._labels(len(levels) - 1, frames), condition)
            frames = frames - (1 - alphas[-1]).sqrt() * noise
        return frames

    @torch.no_grad()
    def predict(
        self,
        past: Tensor,
        num_frames: int,
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Predict any number of frames, block after block; future frames are masked.

        Args:
            past: ``(B, num_past_frames, channels, S, S)`` from 0 to 1.
            num_frames: Frames to predict.
            sampler: As in :meth:`sample`.
            steps: As in :meth:`sample`.
            generators: As in :meth:`sample`.

        Returns:
            ``(B, num_frames, channels, S, S)`` from 0 to 1.

        Raises:
            ValueError: ``past`` has another shape, ``num_frames`` is below 1, or the model predicts
                from no past frames.
        """
        config = self.config
        side = config.image_size
        shape = (len(past), config.num_past_frames, config.channels, side, side)
        if tuple(past.shape) != shape:
            raise ValueError(f"past: expected shape {shape}, found {tuple(past.shape)}")
        if not config.num_past_frames:
            raise ValueError("num_past_frames is 0: this model does not predict from the past")
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; it must be at least 1")
        known = past * 2 - 1  # the network's range, -1..1
        predicted: list[Tensor] = []
        while config.num_frames * len(predicted) < num_frames:
            condition = self.condition(known, None)
            empty = condition.new_empty(len(past), config.num_frames * config.channels, side, side)
            start = _noise(empty, generators)
            block = self.sample(
                condition, start, sampler=sampler, steps=steps, generators=generators
            )
            # (B, num_frames * channels, S, S) -> (B, num_frames, channels, S, S)
            block = block.view(len(past), config.num_frames, config.channels, side, side)
            predicted.append(block)
            # What was predicted is the past of the next block.
            known = torch.cat([known, block], dim=1)[:, -config.num_past_frames :]
        # (B, blocks * num_frames, ...) -> (B, num_frames, ...), and back to 0..1
        return ((torch.cat(predicted, dim=1)[:, :num_frames] + 1) / 2).clamp(0, 1)

    def condition(self, past: Tensor | None, future: Tensor | None) -> Tensor:
        """Stack the frames that the network is shown; those that are None are masked.

        Args:
            past: ``(B, num_past_frames, channels, S, S)`` from -1 to 1.
            future: ``(B, num_future_frames, channels, S, S)`` from -1 to 1.

        Returns:
            ``(B, num_condition_frames * channels, S, S)``; masked frames are zero, a middle grey.
        """
        known = past if past is not None else future
        assert known is not None
        frames = [
            known.new_zeros(len(known), count, *known.shape[2:]) if part is None else part
            for part, count in (
                (past, self.config.num_past_frames),
                (future, self.config.num_future_frames),
            )
        ]
        # (B, frames, channels, S, S) -> (B, frames * channels, S, S)
        return torch.cat(frames, dim=1).flatten(1, 2)

    @staticmethod
    def _labels(level: int, frames: Tensor) -> Tensor:
        return torch.full((len(frames),), level, device=frames.device)


def _noise(like: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Noise of the shape of ``like``, a generator for each sample."""
    if generators is None:
        return torch.randn_like(like)
    samples = [
        torch.randn(sample.shape, generator=generator, device=generator.device)
        for sample, generator in zip(like, generators, strict=True)
    ]
    # Drawn on the generators' device, moved to that of the frames.
    return torch.stack(samples).to(like)
