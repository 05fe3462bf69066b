"""Samples and target tokens per second, unreadable videos, and the share of time spent waiting."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from typing_extensions import override

from callbacks.occasions import StepEnds


class DataWaitTimer(Profiler):
    """Add up the seconds in which the training loop fetches its next batch.

    Lightning has no callback hook before a fetch, but it tells its profiler; give this one to the
    Trainer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._started: float | None = None

    @override
    def start(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self._started = time.perf_counter()

    @override
    def stop(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next") and self._started is not None:
            self.seconds += time.perf_counter() - self._started
            self._started = None

    @override
    def summary(self) -> str:
        return ""


class Throughput(Callback):
    """Log throughput every ``every_n_steps`` optimizer steps; totals of the run survive a resume.

    Logged, over the steps since the last time and over all ranks: ``train/samples_per_second``,
    ``train/target_tokens_per_second`` and ``train/data_wait_share`` (0 to 1; rank 0's). The clock
    stands still during validation and runs during everything else, checkpoints included. Of the
    whole run, also in the progress bar: ``data/unreadable``, the samples whose video could not be
    read, as the data module counts them (its ``num_unreadable``).
    """

    def __init__(self, timer: DataWaitTimer, every_n_steps: int) -> None:
        self.timer = timer
        self.totals = {"samples": 0.0, "target_tokens": 0.0, "seconds": 0.0, "waited_seconds": 0.0}
        self._step_ends = StepEnds(every_n_steps)
        self._restart_window()

    def _restart_window(self) -> None:
        self._samples = 0
        self._target_tokens: torch.Tensor | int = 0
        self._window_start = time.perf_counter()
        self._wait_start = self.timer.seconds

    @override
    def state_dict(self) -> dict[str, Any]:
        return dict(self.totals)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.totals = {key: float(state_dict[key]) for key in self.totals}

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step_ends.start(trainer)
        self._restart_window()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_start = time.perf_counter()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._window_start += time.perf_counter() - self._validation_start

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._samples += len(batch["ids"])
        # Added up on the device: reading it at every micro-batch would make the host wait for the
        # device.
        self._target_tokens = self._target_tokens + (batch["labels"] >= 0).sum()
        if not self._step_ends.reached(trainer):
            return
        counts = torch.tensor(
            [float(self._samples), float(self._target_tokens)], device=pl_module.device
        )
        reduced = trainer.strategy.reduce(counts, reduce_op="sum")
        assert isinstance(reduced, torch.Tensor)
        samples, target_tokens = reduced.tolist()
        seconds = time.perf_counter() - self._window_start
        waited = self.timer.seconds - self._wait_start
        for key, value in zip(self.totals, (samples, target_tokens, seconds, waited), strict=True):
            self.totals[key] += value
        pl_module.log("train/samples_per_second", samples / seconds)
        pl_module.log("train/target_tokens_per_second", target_tokens / seconds)
        pl_module.log("train/data_wait_share", waited / seconds)
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # Lightning declares it nowhere
        pl_module.log("data/unreadable", float(data.num_unreadable), prog_bar=True)
        self._restart_window()
