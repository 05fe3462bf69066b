"""Training of the two networks and of the recogniser, as LightningModules.

Official: yabufarha/anticipating-activities@756d5b8, Adam at 1e-3 for 20 epochs of batches of 512.
Shapes: B samples, S slots, F frames, P patches, D width, R rows, L labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

Batch = Sequence[Tensor]
"""Tensors of a batch, in the order of the samples' fields."""


class SampleModule(ABC, LightningModule):
    """A network that is trained on samples by Adam.

    Attributes:
        epoch_losses: Mean loss of each finished epoch; a checkpoint holds them, too.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.network = network
        self._learning_rate = learning_rate
        self.epoch_losses: list[float] = []
        self._losses: list[tuple[Tensor, int]] = []

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self._losses.append((loss.detach(), len(batch[0])))
        return loss

    @override
    def on_train_epoch_start(self) -> None:
        self._losses.clear()

    @override
    def on_train_epoch_end(self) -> None:
        total = sum(loss.item() * size for loss, size in self._losses)
        self.epoch_losses.append(total / sum(size for _, size in self._losses))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self._learning_rate)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kind"] = type(self).__name__
        checkpoint["epoch_losses"] = list(self.epoch_losses)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another kind of training.

        Raises:
            ValueError: It is one.
        """
        if checkpoint.get("kind") != type(self).__name__:
            raise ValueError(
                f"the checkpoint is of {checkpoint.get('kind')!r}, not of {type(self).__name__!r}; "
                "choose another run_dir"
            )
        self.epoch_losses = list(checkpoint["epoch_losses"])


def still_falls(epoch_losses: Sequence[float]) -> bool:
    """Tell whether a training ended before its loss did: its last epochs fell by over 2% of all.

    The last tenth of the epochs is compared with the tenth before, by their means, and the whole
    fall is that from the first epoch. Without two epochs nobody can tell, and it is taken to fall.
    """
    size = max(len(epoch_losses) // 10, 1)
    last, before = epoch_losses[-size:], epoch_losses[-2 * size : -size]
    if not before:
        return True
    mean = sum(last) / len(last)
    return sum(before) / len(before) - mean > 0.02 * (epoch_losses[0] - mean)


class RnnModule(SampleModule):
    """The RNN: cross entropy of the next label plus the mean squared error of known lengths."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        slots, labels, lengths = batch
        logits, predicted = self.network(slots)
        known = ~lengths.isnan()
        errors = (predicted - lengths.nan_to_num()).square() * known
        length_loss: Tensor = errors.sum() / known.sum().clamp(min=1)
        return functional.cross_entropy(logits, labels) + length_loss


class CnnModule(SampleModule):
    """The CNN: mean squared error of the rows."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        observed, future = batch
        return functional.mse_loss(self.network(observed), future)


class RecogniserModule(SampleModule):
    """The recogniser's head: cross entropy of the frames whose label is known."""

    @override
    def loss(self, batch: Batch) -> Tensor:
        patches, labels = batch
        logits = self.network(patches.float())  # (B, F, P, D) -> (B, F, L)
        # (B, F, L) -> (B * F, L); unknown labels are -1.
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
