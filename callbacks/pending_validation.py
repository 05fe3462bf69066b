"""Re-run a validation that was interrupted, before training resumes.

A checkpoint is saved at the end of a step, before the validation at that step. Lightning 2.6 leaves
that validation out when it resumes from such a checkpoint (measured: of 8 validations, each one at
whose step the run had ended was missing), and with it everything that depends on its metrics.
"""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override


class PendingValidation(Checkpoint):
    """Save whether a validation is due; validate before training continues from such a checkpoint.

    A ``Checkpoint``, so that Lightning calls it after the callbacks that act on metrics. The
    validation after the very last step is not made up for: Lightning starts no run that has made
    all its steps.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._step_validated = -1
        self._is_due = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    @override
    def state_dict(self) -> dict[str, Any]:
        assert self._trainer is not None
        trainer, loop = self._trainer, self._trainer.fit_loop.epoch_loop
        if trainer.global_step == self._step_validated:
            return {"is_due": False}
        fetcher: Any = trainer.fit_loop._data_fetcher
        return {"is_due": trainer.validating or loop._should_check_val_fx(fetcher)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_due = state_dict["is_due"]

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_due or not trainer.enable_validation:
            return
        self._is_due = False
        rank_zero_info(f"validating step {trainer.global_step}, where the run was interrupted")
        # As Lightning does it between two steps.
        connector, val_loop = trainer._logger_connector, trainer.fit_loop.epoch_loop.val_loop
        first_iteration = connector._first_loop_iter
        val_loop.restarting = False
        trainer.validating = True
        val_loop.run()
        trainer.training = True
        connector._first_loop_iter = first_iteration

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._step_validated = trainer.global_step
