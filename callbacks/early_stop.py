"""A run ends before its last step when validation no longer gets better."""

from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.occasions import validated


class EarlyStop(EarlyStopping):
    """Lightning's, behind validations alone; and a run that it ended stays ended.

    Lightning forgets at a new start that it had stopped, and trains to the next validation.

    Args:
        monitor: The metric, as validation logs it.
        mode: Whether lower values are better, or higher.
        patience: The run ends behind so many validations in a row without a new best value.
        min_delta: What is better by no more than this is no new best.
    """

    def __init__(
        self, monitor: str, mode: Literal["min", "max"], patience: int, min_delta: float = 0.0
    ) -> None:
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The configured patience counts: Lightning would take the former one over. With more of it
        # a run that had stopped goes on.
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
            validated(trainer.callback_metrics, self.monitor, "trainer.monitor")
            super().on_validation_end(trainer, pl_module)
