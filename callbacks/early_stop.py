"""Early stopping: a run ends before its last step when validation no longer improves."""

from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.step_callback import logged_metric


class EarlyStop(EarlyStopping):
    """Lightning's early stopping after validations alone; a run that it has stopped stays stopped.

    Lightning forgets at a new start that it had stopped, and trains to the next validation.

    Args:
        monitor: The metric, as validation logs it.
        mode: ``min`` if lower values are better.
        patience: Validations in a row without improvement after which the run ends.
        min_delta: Smallest difference to the best value that counts as an improvement.
    """

    def __init__(
        self, monitor: str, mode: Literal["min", "max"], patience: int, min_delta: float = 0.0
    ) -> None:
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The configured patience counts, not the checkpoint's: with more of it, a run that had
        # stopped goes on.
        super().load_state_dict({**state_dict, "patience": self.patience})
        exhausted = self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
        if exhausted and self.wait_count < self.patience:
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
            self.stopping_reason_message = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            rank_zero_info(f"the run had stopped early: {self.stopping_reason_message}")
            trainer.should_stop = True

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            logged_metric(trainer.callback_metrics, self.monitor, "trainer.monitor")
            super().on_validation_end(trainer, pl_module)
