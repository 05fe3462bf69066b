"""Training of an attentive probe on latents of a frozen V-JEPA 2.

The official training draws the anticipation time, crops and jitters the frames and takes a focal
loss for each label by itself (facebookresearch/vjepa2@c2963a4, configs/eval/vitl/ek100.yaml). Here
latents are computed once, so that they are the same at each epoch, and the loss is cross-entropy,
by which the probe's probabilities are those of one event among all.
"""

from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from vidreason.baselines.vjepa2.probe import AttentiveProbe
from vidreason.baselines.vjepa2.scheduled_module import ScheduledModule
from vidreason.training.config import OptimizerConfig

UNSEEN = -100
"""Index of a label that training does not have: it gives no loss, and is never predicted right."""


class LatentBatch(TypedDict):
    """A batch of B clips."""

    latents: Tensor
    """``(B, N, D)``, of any floating dtype."""
    labels: dict[str, Tensor]
    """``(B,)`` int64 by head; :data:`UNSEEN` for a label of validation that training lacks."""


class ProbeTraining(ScheduledModule):
    """Trains a probe; its heads' losses are added.

    Metrics: ``train/loss`` of a step; ``val/loss`` and, for each head, ``val/accuracy_{head}`` of
    the whole validation, in which an unseen label counts as wrong.

    Args:
        probe: The probe.
        optimizer: AdamW and its schedule.
        total_steps: Optimizer steps of the whole run.
    """

    def __init__(self, probe: AttentiveProbe, optimizer: OptimizerConfig, total_steps: int) -> None:
        super().__init__(optimizer, total_steps)
        self.probe = probe

    @override
    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        loss, _ = self._loss(batch)
        self.record_loss(loss, len(batch["latents"]))
        return loss

    @override
    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        loss, logits = self._loss(batch)
        size = len(batch["latents"])
        self.log("val/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        for head, of_head in logits.items():
            right = (of_head.argmax(dim=-1) == batch["labels"][head]).float().mean()
            self.log(f"val/accuracy_{head}", right, batch_size=size, sync_dist=True)

    def _loss(self, batch: LatentBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the heads' mean losses over seen labels, and the logits of each head."""
        logits: dict[str, Tensor] = self.probe(batch["latents"].float())
        losses = []
        for head, of_head in logits.items():
            labels = batch["labels"][head]
            # A mean over the labels that are known: a batch may have none, which "mean" would make
            # NaN.
            total = cross_entropy(of_head, labels, ignore_index=UNSEEN, reduction="sum")
            losses.append(total / (labels != UNSEEN).sum().clamp(min=1))
        return torch.stack(losses).sum(), logits
