"""Losses of the epochs of a training: what the modules of all trained baselines write down."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule
from torch import Tensor
from typing_extensions import override


class EpochLossModule(LightningModule):
    """A module that keeps the mean training loss of each epoch.

    A subclass calls :meth:`record_loss` in each training step.

    Attributes:
        epoch_losses: Mean loss of each finished epoch; a checkpoint holds them, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch_losses: list[float] = []
        self._losses: list[tuple[Tensor, int]] = []

    def record_loss(self, loss: Tensor, batch_size: int) -> None:
        """Log the mean loss of a batch as ``train/loss``, and count it in the epoch's."""
        # Not as a number yet: that would wait for the device in each step.
        self._losses.append((loss.detach(), batch_size))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch_size)

    @override
    def on_train_epoch_start(self) -> None:
        self._losses.clear()

    @override
    def on_train_epoch_end(self) -> None:
        """Close the epoch.

        Raises:
            ValueError: No batch of it had a sample.
        """
        if not self._losses:
            raise ValueError("no sample of an epoch could be read: there is nothing to learn from")
        # Weighted by size, as batches may be of several sizes.
        total = sum(float(loss) * size for loss, size in self._losses)
        self.epoch_losses.append(total / sum(size for _, size in self._losses))

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
