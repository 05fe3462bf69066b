"""Base class of callbacks that act after optimizer steps, and a lookup of validation metrics."""

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override


class StepCallback(Callback):
    """A callback that acts at the end of optimizer steps, whose micro-batches may be many.

    Lightning calls callbacks after each micro-batch; a step is over when the trainer's counter has
    moved. A subclass that overrides one of these hooks calls it, too.

    Attributes:
        every_n_steps: Steps whose number it divides are followed by :meth:`on_step_end`; 0 for
            none.
    """

    every_n_steps: int = 1
    _last_step = 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step = trainer.global_step  # a resumed run has made these steps before

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        if self.every_n_steps and step % self.every_n_steps == 0:
            self.on_step_end(trainer, pl_module)

    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act; ``trainer.global_step`` counts the step that has ended."""


def logged_metric(metrics: Mapping[str, Tensor], name: str, field: str) -> float:
    """Return the value of a metric that a validation has just logged.

    Args:
        metrics: The trainer's ``callback_metrics``.
        name: The metric.
        field: Configuration key that names it, for the message.

    Raises:
        ValueError: There is no such metric.
    """
    if name not in metrics:
        raise ValueError(
            f"{field} is {name!r}, which validation does not log; it logs "
            f"{', '.join(sorted(metrics))}"
        )
    return float(metrics[name])
