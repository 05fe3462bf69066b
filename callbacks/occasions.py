"""When a callback acts: behind every n-th optimizer step, or by a metric of a validation."""

from collections.abc import Mapping

from lightning import Trainer
from torch import Tensor


class StepEnds:
    """Tells the micro-batch that ends an optimizer step from those that only add to it.

    Lightning calls callbacks behind each micro-batch. A step is over when its counter has moved.

    Args:
        every_n_steps: Only the steps whose number it divides count; 0 for none.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        self.every_n_steps = every_n_steps
        self._seen = 0

    def start(self, trainer: Trainer) -> None:
        """Called in ``on_train_start``: the steps before a resume were over then."""
        self._seen = trainer.global_step

    def reached(self, trainer: Trainer) -> bool:
        """Called behind each micro-batch: whether it ended a step that counts."""
        step = trainer.global_step
        if step == self._seen:
            return False
        self._seen = step
        return self.every_n_steps > 0 and step % self.every_n_steps == 0


def validated(metrics: Mapping[str, Tensor], name: str, field: str) -> float:
    """The value of a metric that a validation has just logged.

    Args:
        metrics: The trainer's ``callback_metrics``.
        name: The metric.
        field: Where the configuration names it, for the message.

    Raises:
        ValueError: There is no such metric.
    """
    if name not in metrics:
        raise ValueError(
            f"{field} is {name!r}, which validation does not log; it logs "
            f"{', '.join(sorted(metrics))}"
        )
    return float(metrics[name])
