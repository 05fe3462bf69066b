"""Time and memory of each operation in a few steps, by torch's profiler."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile
from typing_extensions import override

from callbacks.step_callback import StepCallback

TRACE_FILE = "trace.json"
"""For chrome://tracing, or ui.perfetto.dev."""
OPERATIONS_FILE = "operations.txt"
_NUM_ROWS = 40  # operations in the table


@dataclass(eq=False)
class StepProfile(StepCallback):
    """Profile some optimizer steps of rank 0, once the first steps are over.

    Written to ``folder``: the trace, and a table of the operations that took the most time. The
    profiler slows these steps down; it changes nothing of what they learn.
    """

    folder: Path
    num_steps: int
    """Number of steps to profile."""
    after_steps: int = 2
    """Steps of this start before the first profiled one: memory is allocated and kernels are chosen
    in these."""

    def __post_init__(self) -> None:
        self._first_step = 0
        self._profile: profile | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._first_step = trainer.global_step + self.after_steps

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        due = trainer.is_global_zero and trainer.global_step == self._first_step
        if not due or self._profile is not None:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, profile_memory=True, record_shapes=True)
        self._profile.start()

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step >= self._first_step + self.num_steps:
            self._write()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()  # a run of fewer steps

    def _write(self) -> None:
        if self._profile is None:
            return
        self._profile.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self.folder / TRACE_FILE))
        # By its own time, without that of the operations that it calls.
        sort_by = f"self_{'cuda' if torch.cuda.is_available() else 'cpu'}_time_total"
        table = self._profile.key_averages().table(sort_by=sort_by, row_limit=_NUM_ROWS)
        (self.folder / OPERATIONS_FILE).write_text(table + "\n")
        self._profile = None
