"""Checkpoints by optimizer step; a process killed at any instant leaves only complete ones.

Lightning's own save goes through a file in the system's temporary folder and ``shutil.move``, which
is a plain copy when that folder is on another file system (as ``/tmp`` on a cluster is): killed in
the copy, it leaves a torn file under the final name. See
:mod:`vidreason.training.checkpoint_files` for what is done here.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.step_callback import StepCallback, logged_metric
from vidreason.atomic_file import write_json_atomically
from vidreason.training.atomic_checkpoint import PARTIAL, CheckpointWriteError
from vidreason.training.checkpoint import BEST_CHECKPOINT, LAST_CHECKPOINT, step_checkpoints
from vidreason.training.checkpoint_damage import damage
from vidreason.training.checkpoint_files import read_checkpoint, remove_checkpoint, write_file
from vidreason.training.sharded_values import from_rank_zero, of_each_rank

BEST_FILE = "best.json"
"""Beside the checkpoints: the metric, and its value for each checkpoint that is kept for it."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a file beside its final name, then rename it; one of the Trainer's plugins.

    It reads any checkpoint of any strategy but DeepSpeed's, whole, and never runs what it reads.
    """

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        if storage_options is not None:
            raise ValueError("AtomicCheckpointIO writes local files and takes no storage_options")
        write_file(checkpoint, Path(path))

    @override
    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


@dataclass(eq=False)
class StepCheckpoint(StepCallback, Checkpoint):
    """Save every few optimizer steps and at the end; keep the newest and the best checkpoints.

    After each save ``last.ckpt`` links to the new checkpoint, which is the one to continue from.
    The checkpoint that a validation has just scored is kept while its metric is among the best, and
    ``best.ckpt`` links to the best one; the step before a validation is saved for that. A full disk
    ends the run on all ranks; earlier checkpoints stay.
    """

    folder: Path
    """Folder of the checkpoints."""
    save_every_n_steps: int
    """Optimizer steps between two checkpoints."""
    keep: int = 2
    """Number of the newest checkpoints to keep."""
    keep_best: int = 0
    """Number of the best checkpoints to keep; 0 saves none for being good."""
    monitor: str = "val/loss"
    """The metric, as it is logged during validation."""
    mode: Literal["min", "max"] = "min"
    """``min`` if lower values of the metric are better."""

    def __post_init__(self) -> None:
        self._scores: dict[str, float] = {}
        """Metric of each of the best by file name, the best first; the same on all ranks."""
        self._step_saved = 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._step_saved = trainer.global_step
        # From the folder: the checkpoint itself was written before it was scored.
        self._scores = from_rank_zero(self._recorded_scores)

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        due = step % self.save_every_n_steps == 0 or step == trainer.max_steps
        # Before the validation, not after it: at the end of an epoch Lightning 2.6 takes a
        # checkpoint from there for that of a finished training, and resumes it for no step
        # (measured).
        if due or (self.keep_best and _validation_follows(trainer)):
            self.save_step(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.keep_best or trainer.sanity_checking or trainer.global_step == 0:
            return
        score = logged_metric(trainer.callback_metrics, self.monitor, "trainer.monitor")
        path = self._path(trainer.global_step)
        scores = self._scores if math.isnan(score) else {**self._scores, path.name: score}
        ranked = self._ranked(scores)
        if path.name not in ranked:
            return
        if from_rank_zero(lambda: damage(path)):
            return  # a run that continues another run's checkpoint validates before it saves
        self._scores = ranked
        if trainer.is_global_zero:
            values = {"monitor": self.monitor, "mode": self.mode, "scores": ranked}
            write_json_atomically(self.folder / BEST_FILE, values)
            self._link(BEST_CHECKPOINT, next(iter(ranked)))
            self._remove_others(path.name)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save_once(trainer)

    def save_step(self, trainer: Trainer) -> None:
        """At the end of an optimizer step: :meth:`save_once`, after the step's metrics are written.

        Lightning gives them to the loggers after the callbacks. A run that ended between the two
        would continue after the step, and its loss would never be logged.
        """
        if trainer.global_step == self._step_saved:
            return
        connector: Any = trainer._logger_connector
        log = connector.update_train_step_metrics
        log()

        def is_logged() -> None:
            connector.update_train_step_metrics = log

        connector.update_train_step_metrics = is_logged  # replaces Lightning's call for this step
        self.save_once(trainer)

    def save_once(self, trainer: Trainer) -> None:
        """Save now, unless this step is saved already; collective."""
        # Not "if the file exists": all ranks must decide alike, and not all may see rank 0's disk.
        if trainer.global_step != self._step_saved:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._step_saved = trainer.global_step
        path = self._path(trainer.global_step)
        failure = ""
        try:
            trainer.save_checkpoint(path, weights_only=False)  # all ranks take part
        except CheckpointWriteError as error:
            failure = str(error)
            trainer.strategy.barrier("Trainer.save_checkpoint")  # at which the others wait
        failures = [text for text in of_each_rank(failure) if text]
        if failures:
            raise CheckpointWriteError(failures[0])
        if trainer.is_global_zero:
            self._link(LAST_CHECKPOINT, path.name)
            self._remove_others(path.name)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.ckpt"

    def _link(self, name: str, target: str) -> None:
        link = self.folder / (name + PARTIAL)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        os.replace(link, self.folder / name)

    def _remove_others(self, newest: str) -> None:
        # A damaged one stays to be looked at, and does not count as one that is kept.
        older = [
            other
            for other in step_checkpoints(self.folder)
            if other.name < newest and not damage(other)
        ]
        for checkpoint in older[: max(len(older) - (self.keep - 1), 0)]:
            if checkpoint.name not in self._scores:
                remove_checkpoint(checkpoint)

    def _ranked(self, scores: dict[str, float]) -> dict[str, float]:
        """Return the best ``keep_best`` scores, the best first, of equal ones the earlier."""
        sign = 1 if self.mode == "min" else -1
        best = sorted(scores.items(), key=lambda item: (sign * item[1], item[0]))
        return dict(best[: self.keep_best])

    def _recorded_scores(self) -> dict[str, float]:
        path = self.folder / BEST_FILE
        if not self.keep_best or not path.is_file():
            return {}
        values = json.loads(path.read_text())
        if (values["monitor"], values["mode"]) != (self.monitor, self.mode):
            return {}  # values of another metric compare with nothing
        sound = {n: v for n, v in values["scores"].items() if not damage(self.folder / n)}
        return self._ranked(sound)


def _validation_follows(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(cast(Any, loop._data_fetcher)))


class PendingValidation(Checkpoint):
    """Save whether a validation is due; validate before training continues from such a checkpoint.

    A checkpoint is saved at the end of a step, before the validation at that step. Lightning 2.6
    leaves that validation out when it resumes from such a checkpoint (measured: of 8 validations,
    each one at whose step the run had ended was missing), and with it all that depends on its
    metrics.

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
