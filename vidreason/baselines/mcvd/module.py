"""Training of an MCVD model as a LightningModule.

As in voletiv/mcvd-pytorch@451da2e (``runners/ncsn_runner.py``): Adam, a linear warm-up, past and
future frames masked at random, and a moving average of the parameters, which is what is sampled
from.

Shapes: B batch, W frames of a window, S side of a frame.
"""

import copy
from typing import Any, TypedDict

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from vidreason.baselines.epoch_losses import EpochLossModule
from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.diffusion import VideoDiffusion
from vidreason.baselines.mcvd.pictures import to_model_range


class WindowBatch(TypedDict):
    """The entry of a batch of frame windows that training reads."""

    frames: Tensor
    """``(B, W, 3, S, S)`` uint8 RGB: past frames, those to predict, future frames. B may be 0."""


class MCVDModule(EpochLossModule):
    """Train a model to predict frames.

    Its state holds the parameters and their moving average, so a checkpoint of Lightning's resumes
    both. Metrics: ``train/loss`` and ``val/loss``, the mean squared error of the noise; the latter
    is the moving average's, with the same noise at every validation.

    Args:
        config: Sizes, noise, masking.
        learning_rate: After the warm-up.
        warm_up_steps: Optimizer steps in which the learning rate rises from 0.
        average_decay: Share of the moving average that each optimizer step leaves.

    Attributes:
        model: The model that is trained.
        average: The moving average, which goes into :func:`save_folder`.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        config: DiffusionConfig,
        *,
        learning_rate: float = 1e-4,
        warm_up_steps: int = 5000,
        average_decay: float = 0.999,
    ) -> None:
        super().__init__()
        if not learning_rate > 0 or warm_up_steps < 0 or not 0 <= average_decay < 1:
            raise ValueError(
                f"learning_rate is {learning_rate}, warm_up_steps {warm_up_steps} and "
                f"average_decay {average_decay}; they must be above 0, at least 0, and from 0 to "
                "below 1"
            )
        self.learning_rate = learning_rate
        self.warm_up_steps = warm_up_steps
        self.average_decay = average_decay
        self.model = VideoDiffusion(config)
        self.average = copy.deepcopy(self.model).requires_grad_(False)

    @override
    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor | None:
        """Return the loss of a batch; None where no window could be read."""
        if not len(batch["frames"]):
            return None
        loss = self._loss(self.model, batch["frames"], mask=True)
        self.record_loss(loss, len(batch["frames"]))
        return loss

    @override
    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        """Log the moving average's loss."""
        if len(batch["frames"]):
            generator = torch.Generator().manual_seed(batch_idx)
            loss = self._loss(self.average, batch["frames"], mask=False, generator=generator)
            self.log("val/loss", loss, batch_size=len(batch["frames"]), sync_dist=True)

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with a linear warm-up."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)
        warm_up = max(self.warm_up_steps, 1)
        # From the first step on above 0, which would leave the parameters as they are.
        schedule = LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1.0))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @override
    def optimizer_step(self, *args: Any, **named: Any) -> None:
        """Take an optimizer step, then move the average towards the parameters."""
        super().optimizer_step(*args, **named)
        with torch.no_grad():
            for average, value in zip(
                self.average.parameters(), self.model.parameters(), strict=True
            ):
                # average = decay * average + (1 - decay) * value
                average.lerp_(value, 1 - self.average_decay)

    def _loss(
        self,
        model: VideoDiffusion,
        windows: Tensor,
        *,
        mask: bool,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        config = model.config
        frames = to_model_range(windows, config)  # (B, W, channels, S, S)
        counts = [config.num_past_frames, config.num_frames, config.num_future_frames]
        past, current, future = torch.split(frames, counts, dim=1)
        if mask:
            # Past and future are masked each by itself, so that one model learns to predict, to
            # fill in and to draw from nothing.
            past = _masked(past, config.mask_past)
            future = _masked(future, config.mask_future)
        # (B, frames, channels, S, S) -> (B, frames * channels, S, S)
        return model.loss(current.flatten(1, 2), model.condition(past, future), generator)


def _masked(frames: Tensor, probability: float) -> Tensor:
    """Set all frames of some samples to zero."""
    kept = torch.rand(len(frames), device=frames.device) >= probability
    return frames * kept[:, None, None, None, None]  # (B, 1, 1, 1, 1)
