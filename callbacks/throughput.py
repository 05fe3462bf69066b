"""Samples and target tokens per second, step times, unreadable videos, waiting and memory."""

import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.step_callback import StepCallback
from vidreason.atomic_file import write_json_atomically
from vidreason.training.sharded_values import of_each_rank
from vidreason.training.stage import StageModule
from vidreason.training.step_metrics import log_step

SPEED_FILE = "speed.json"
"""In the run folder: what :meth:`Throughput.summary` says of a run that has ended."""

_UNTIMED = nullcontext()
_GIB = 2**30  # bytes
_OVER_RANKS = ("samples", "target_tokens", "positions", "computed_positions")
_COUNTS = (*_OVER_RANKS, "seconds", "waited_seconds")
_BIN_RATIO = 1.02
"""Ratio of the longest to the shortest step time in a bin: times are known to 1 %."""


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
        # Lightning's name for fetching a batch, after that of the loop.
        if action_name.endswith("train_dataloader_next"):
            self._started = time.perf_counter()

    @override
    def stop(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next") and self._started is not None:
            self.seconds += time.perf_counter() - self._started
            self._started = None

    @override
    def profile(  # type: ignore[override] # another class of context manager
        self, action_name: str
    ) -> AbstractContextManager[None]:
        # Lightning does this around each hook of each callback, and fetches without it.
        return _UNTIMED

    @override
    def summary(self) -> str:
        return ""


@dataclass(eq=False)
class Throughput(StepCallback):
    """Log throughput every few optimizer steps; totals of the run survive a resume.

    Metrics, over the steps since the last time and over all ranks:

    * ``train/samples_per_second``, ``train/target_tokens_per_second``
    * ``train/fill``: share of the positions that the language model computed which hold a video
      embedding or a token; the others are padding
    * ``train/data_wait_share``: share of rank 0's time in which it waited for data
    * ``data/unreadable``: samples of the whole run whose video could not be read, as the data
      module counts them (its ``num_unreadable``); also in the progress bar

    The clock stands still during validation and runs during everything else, checkpoints included.
    At the end of training, a table of the whole run is shown, and written to ``SPEED_FILE``.
    """

    timer: DataWaitTimer
    """The Trainer's profiler."""
    log_every_n_steps: int
    """Optimizer steps between two logged windows."""
    run_dir: Path

    def __post_init__(self) -> None:
        self.totals = dict.fromkeys(_COUNTS, 0.0)
        self.step_times: Counter[int] = Counter()
        """Number of optimizer steps of rank 0 by the logarithm of their seconds."""
        self._step_start = 0.0
        self._restart_window()

    def _restart_window(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0.0)
        self._window_start = time.perf_counter()
        self._wait_start = self.timer.seconds

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**self.totals, "step_times": dict(self.step_times)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.totals = {name: float(state_dict[name]) for name in _COUNTS}
        self.step_times = Counter(state_dict["step_times"])

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._restart_window()
        self._step_start = self._window_start

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_start = time.perf_counter()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.perf_counter() - self._validation_start
        # As if it had taken no time: both clocks start that much later.
        self._window_start += seconds
        self._step_start += seconds

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StageModule)
        self._counts["samples"] += len(batch["ids"])
        self._counts["target_tokens"] += len(batch["text"]["target_ids"])
        positions, computed = pl_module.reasoner.num_positions(batch["text"])
        self._counts["positions"] += positions
        self._counts["computed_positions"] += computed
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        # Rank 0 counts all steps of the run in a few hundred bins, whatever its length.
        self.step_times[_bin_of(now - self._step_start)] += 1
        self._step_start = now
        if trainer.global_step % self.log_every_n_steps:
            return
        window = self._end_window(trainer, pl_module)
        log_step(pl_module, {f"train/{key}": value for key, value in _rates(window).items()})
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # Lightning declares it nowhere
        log_step(pl_module, {"data/unreadable": float(data.num_unreadable)}, prog_bar=True)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.step_times:
            return
        self._end_window(trainer, pl_module)
        # The fullest of all devices: it is the one that runs out of memory.
        peak = max(of_each_rank(_peak_bytes(pl_module.device)))
        if trainer.is_global_zero:
            summary = {**self.summary(), "peak_memory_gib": peak / _GIB}
            lines = [f"{name:>26}  {value:.4g}" for name, value in summary.items()]
            rank_zero_info("\n".join(["the run's steps, validation left out:", *lines]))
            write_json_atomically(self.run_dir / SPEED_FILE, summary)

    def summary(self) -> dict[str, float]:
        """Sum up all steps of the run: rates over all ranks, times to 1%, the rest rank 0's."""
        return {
            "steps": self.step_times.total(),
            "median_step_seconds": _quantile(self.step_times, 0.5),
            "p95_step_seconds": _quantile(self.step_times, 0.95),
            **_rates(self.totals),
        }

    def _end_window(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Return the counts since the last time, and add them to ``totals``; collective."""
        window = self._counts
        sums = torch.tensor([float(window[name]) for name in _OVER_RANKS], device=pl_module.device)
        # Counts are of each rank, (4,); seconds and waiting stay rank 0's.
        reduced = trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(reduced, torch.Tensor)
        window.update(zip(_OVER_RANKS, reduced.tolist(), strict=True))
        window["seconds"] = time.perf_counter() - self._window_start
        window["waited_seconds"] = self.timer.seconds - self._wait_start
        for name, value in window.items():
            self.totals[name] += value
        self._restart_window()
        return window


def _rates(counts: Mapping[str, float]) -> dict[str, float]:
    seconds = counts["seconds"]
    return {
        "samples_per_second": counts["samples"] / seconds,
        "target_tokens_per_second": counts["target_tokens"] / seconds,
        "fill": counts["positions"] / max(counts["computed_positions"], 1),
        "data_wait_share": counts["waited_seconds"] / seconds,
    }


def _bin_of(seconds: float) -> int:
    return round(math.log(max(seconds, 1e-9), _BIN_RATIO))


def _quantile(step_times: Counter[int], share: float) -> float:
    """Return the seconds that this share of the steps did not exceed."""
    ordered = sorted(step_times.elements())  # bins, the shortest times first
    return float(_BIN_RATIO ** ordered[math.ceil(share * len(ordered)) - 1])


def _peak_bytes(device: torch.device) -> int:
    """Return the peak memory of tensors on a GPU, or of this process on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # ru_maxrss is in bytes on macOS, in KiB elsewhere
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
