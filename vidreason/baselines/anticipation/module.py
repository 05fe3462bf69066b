"""Training of the two networks and of the recogniser, as LightningModules.

Official: yabufarha/anticipating-activities@756d5b8, Adam at 1e-3 for 20 epochs of batches of 512.
Shapes: B samples, S slots, F frames, P patches, D width, R rows, L labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from vidreason.baselines.epoch_losses import EpochLossModule

Batch = Sequence[Tensor]
"""Tensors of a batch, in the order of the samples' fields."""


class SampleModule(ABC, EpochLossModule):
    """A network that is trained on samples by Adam."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.network = network
        self._learning_rate = learning_rate

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.record_loss(loss, len(batch[0]))
        return loss

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self._learning_rate)


class RnnModule(SampleModule):
    """The RNN: cross entropy of the next label plus the mean squared error of known lengths."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        # (B, S, L + 1), (B,), (B, 2)
        slots, labels, lengths = batch
        logits, predicted = self.network(slots)
        # A length that nobody knows is NaN, and NaN times 0 is NaN: it becomes 0 before the mask.
        known = ~lengths.isnan()
        errors = (predicted - lengths.nan_to_num()).square() * known
        length_loss: Tensor = errors.sum() / known.sum().clamp(min=1)
        return functional.cross_entropy(logits, labels) + length_loss


class CnnModule(SampleModule):
    """The CNN: mean squared error of the rows."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        observed, future = batch  # (B, R, L) each
        return functional.mse_loss(self.network(observed), future)


class RecogniserModule(SampleModule):
    """The recogniser's head: cross entropy of the frames whose label is known."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        patches, labels = batch
        logits = self.network(patches.float())  # (B, F, P, D) -> (B, F, L)
        # (B, F, L) -> (B * F, L); unknown labels are -1.
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
