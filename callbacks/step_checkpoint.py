"""Checkpoints by optimizer step; a process killed at any instant leaves only complete ones behind.

Lightning's own save goes through a file in the system's temporary folder and ``shutil.move``, which
is a plain copy when that folder is on another file system (as ``/tmp`` on a cluster is): killed in
the copy, it leaves a torn file under the final name. Here the temporary file lies beside the final
one, is flushed to the disk, and is renamed.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from typing_extensions import override

from vidreason.training.checkpoint import LAST_CHECKPOINT, step_checkpoints

_PARTIAL = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name, then rename it; one of the Trainer's plugins."""

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        if storage_options is not None:
            raise ValueError("AtomicCheckpointIO writes local files and takes no storage_options")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(
            f"*{_PARTIAL}"
        ):  # of a process that was killed in a save
            leftover.unlink()
        partial = target.with_name(target.name + _PARTIAL)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)


class StepCheckpoint(Checkpoint):
    """Save ``<folder>/step-<step>.ckpt`` every ``every_n_steps`` optimizer steps and at the end.

    ``<folder>/last.ckpt`` is a link to the newest. Older checkpoints than the ``keep`` newest are
    removed.
    """

    def __init__(self, folder: str, every_n_steps: int, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._step_seen = 0
        self._step_saved = 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step_saved = trainer.global_step
        # Without this, the first micro-batch after a resume would be saved: half of an accumulated
        # step.
        self._step_seen = trainer.global_step

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        if step == self._step_seen:
            return  # a micro-batch that did not end an optimizer step
        self._step_seen = step
        if step % self.every_n_steps == 0 or step == trainer.max_steps:
            self._save(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not "if the file exists": all ranks must decide alike, and not all may see rank 0's disk.
        if trainer.global_step != self._step_saved:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._step_saved = trainer.global_step
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)  # all ranks take part; rank 0 writes
        if not trainer.is_global_zero:
            return
        link = self.folder / (LAST_CHECKPOINT + _PARTIAL)
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, self.folder / LAST_CHECKPOINT)
        older = [other for other in step_checkpoints(self.folder) if other.name < path.name]
        for checkpoint in older[: max(len(older) - (self.keep - 1), 0)]:
            checkpoint.unlink()
