"""Self-supervised pre-training of a V-JEPA 2 of any size: predict the latents of hidden blocks.

The recipe of facebookresearch/vjepa2@c2963a4, app/vjepa/train.py: the encoder sees what the masks
leave of a clip; the predictor gives latents of what is hidden; their targets are those of a target
encoder, the running average of the encoder, which sees the whole clip, normalised over features.

Shapes: B clips, F frames, S image side in pixels, N tokens, D width.
"""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import l1_loss, layer_norm, smooth_l1_loss
from torch.optim import Optimizer
from transformers import VideoLlavaVideoProcessor, VJEPA2Config, VJEPA2Model
from typing_extensions import override

from vidreason.baselines.vjepa2.config import ModelSizes, PretrainingConfig
from vidreason.baselines.vjepa2.masks import Masks, draw_masks
from vidreason.baselines.vjepa2.scheduled_module import ScheduledModule
from vidreason.training.config import OptimizerConfig
from vidreason.video.transforms import IMAGENET_DEVIATION, IMAGENET_MEAN, FrameTransform

_BILINEAR = 2
"""Pillow's number."""


def build_model(sizes: ModelSizes) -> VJEPA2Model:
    """Build encoder and predictor with random weights, drawn from torch's generator."""
    config = VJEPA2Config(
        crop_size=sizes.image_size,
        patch_size=sizes.patch_size,
        frames_per_clip=sizes.num_frames,
        tubelet_size=sizes.tubelet_size,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        pred_hidden_size=sizes.predictor_width,
        pred_num_hidden_layers=sizes.predictor_layers,
        pred_num_attention_heads=sizes.predictor_heads,
    )
    return VJEPA2Model(config)


def clip_transform(sizes: ModelSizes) -> FrameTransform:
    """Return the preprocessing of pre-training, which :func:`save_model` writes down as well.

    The whole frame is squashed to the square: V-JEPA 2's own would cut off its borders, where
    things come and go.
    """
    return FrameTransform(size=sizes.image_size, interpolation="antialiased-bilinear")


def save_model(model: VJEPA2Model, folder: Path) -> None:
    """Write a model as a folder that transformers and ``weights.encoder`` read."""
    model.save_pretrained(folder)
    side = {"height": model.config.crop_size, "width": model.config.crop_size}
    # Not V-JEPA 2's processor, which takes no other size than its crop's times 256 / 224.
    VideoLlavaVideoProcessor(
        size=side,
        do_resize=True,
        do_center_crop=False,
        do_rescale=True,
        do_normalize=True,
        resample=_BILINEAR,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_DEVIATION),
    ).save_pretrained(folder)


def encode_visible(encoder: nn.Module, clips: Tensor, positions: Tensor) -> Tensor:
    """Encode some tokens of clips as if there were no others.

    Args:
        encoder: Encoder of transformers' V-JEPA 2, whose forward takes whole clips alone.
        clips: ``(B, F, 3, S, S)`` normalised frames.
        positions: ``(B, C)`` int64 positions of the tokens.

    Returns:
        ``(B, C, D)``.
    """
    parts: Any = encoder
    hidden: Tensor = parts.embeddings(clips)  # (B, N, D)
    hidden = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))  # (B, C, D)
    for layer in parts.layer:
        # Rotary positions are those of the whole clip.
        hidden = layer(hidden, positions)[0]
    encoded: Tensor = parts.layernorm(hidden)
    return encoded


class LatentPrediction(ScheduledModule):
    """Pre-trains a V-JEPA 2 on clips without labels.

    Batches are ``(B, F, 3, S, S)`` normalised frames. Metrics of a step: ``train/loss``, and
    ``train/target_deviation``, the standard deviation of a target's feature from clip to clip at
    one position, on average. Near 0, the targets say nothing about a clip: the model collapsed.
    ``val/loss`` and ``val/target_deviation`` are their means over the whole validation.

    Args:
        model: Encoder and predictor, trained in place.
        config: Masks, loss and average.
        optimizer: AdamW and its schedule.
        total_steps: Optimizer steps of the whole run.

    Attributes:
        target_deviation: Of the last step, without a dimension; None before the first with more
            than one clip.
    """

    def __init__(
        self,
        model: VJEPA2Model,
        config: PretrainingConfig,
        optimizer: OptimizerConfig,
        total_steps: int,
    ) -> None:
        super().__init__(optimizer, total_steps)
        self.model = model
        self.config = config
        self.target_encoder = copy.deepcopy(model.encoder).requires_grad_(False)
        self.target_deviation: Tensor | None = None

    @property
    def is_collapsed(self) -> bool:
        """Tell whether the targets of the last step hardly differed from clip to clip."""
        deviation = self.target_deviation
        return deviation is not None and bool(deviation < self.config.collapse_deviation)

    def pretrained_model(self) -> VJEPA2Model:
        """Return a copy with the target encoder, the one that is used afterwards."""
        model: Any = copy.deepcopy(self.model)
        model.encoder.load_state_dict(self.target_encoder.state_dict())
        pretrained: VJEPA2Model = model.eval()
        return pretrained

    @override
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        targets = self._targets(batch)
        loss = self._mean_loss(batch, targets, self._step_generator(batch_idx))
        self.record_loss(loss, len(batch))
        if len(batch) > 1:
            self.target_deviation = _deviation(targets)
            self.log("train/target_deviation", self.target_deviation, batch_size=len(batch))
        return loss

    @override
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log loss and deviation, with masks that are the same at every validation."""
        targets = self._targets(batch)
        loss = self._mean_loss(batch, targets, torch.Generator().manual_seed(batch_idx))
        self.log("val/loss", loss, batch_size=len(batch), sync_dist=True)
        if len(batch) > 1:
            deviation = _deviation(targets)
            self.log("val/target_deviation", deviation, batch_size=len(batch), sync_dist=True)

    @torch.no_grad()
    def _targets(self, clips: Tensor) -> Tensor:
        """Normalised latents ``(B, N, D)`` of whole clips by the target encoder."""
        tokens = self.target_encoder(clips).last_hidden_state
        # Without weights, and over the features of each token: targets of one scale, which do not
        # shrink.
        return layer_norm(tokens.float(), tokens.shape[-1:])

    def _mean_loss(self, clips: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The mean over the kinds of masks, which are drawn by ``generator``."""
        losses = [
            self._loss(clips, targets, draw_masks(blocks, self._grid(clips), len(clips), generator))
            for blocks in self.config.masks
        ]
        return torch.stack(losses).mean()

    def _step_generator(self, batch_idx: int) -> torch.Generator:
        """The generator of a batch's masks: a run that is resumed draws the same ones."""
        # Batches whose gradients are added up in one step have masks of their own.
        part = batch_idx % self.trainer.accumulate_grad_batches
        name = f"masks/{self.config.seed}/{self.global_step}/{part}/{self.global_rank}"
        # Of a larger number, torch's generator would use the last 32 bits alone.
        return torch.Generator().manual_seed(random.Random(name).getrandbits(32))

    def _loss(self, clips: Tensor, targets: Tensor, masks: Masks) -> Tensor:
        """The distance of the predicted latents of the hidden tokens to their targets."""
        visible, hidden = masks.visible.to(clips.device), masks.hidden.to(clips.device)
        seen = encode_visible(self.model.encoder, clips, visible)  # (B, C, D)
        # The predictor of transformers picks its context out of all tokens: (B, C, D) -> (B, N, D)
        width = seen.shape[-1]
        spread = seen.new_zeros(targets.shape).scatter(
            1, visible[..., None].expand(-1, -1, width), seen
        )
        predicted = self.model.predictor(
            encoder_hidden_states=spread, context_mask=[visible], target_mask=[hidden]
        ).last_hidden_state  # (B, P, D)
        # (B, N, D) -> (B, P, D)
        wanted = targets.gather(1, hidden[..., None].expand(-1, -1, width))
        distance = l1_loss if self.config.loss == "l1" else smooth_l1_loss
        return distance(predicted.float(), wanted)

    def _grid(self, clips: Tensor) -> tuple[int, int, int]:
        config: Any = self.model.config
        side = config.crop_size // config.patch_size
        return clips.shape[1] // config.tubelet_size, side, side

    @override
    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the target encoder a little towards the encoder."""
        pairs = zip(self.target_encoder.parameters(), self.model.encoder.parameters(), strict=True)
        for average, parameter in pairs:
            average.lerp_(parameter, 1 - self.config.momentum)

    @override
    def on_train_end(self) -> None:
        if self.is_collapsed:
            assert self.target_deviation is not None
            rank_zero_warn(
                f"pre-training collapsed: its targets differ by {float(self.target_deviation):.3g} "
                f"from clip to clip, below collapse_deviation {self.config.collapse_deviation}; "
                "raise momentum, lower the learning rate, or take larger batches"
            )


def _deviation(targets: Tensor) -> Tensor:
    """The standard deviation from clip to clip, on average: (B, N, D) -> (N, D) -> ()."""
    return targets.std(dim=0).mean()
