"""Record of a run in its folder: configuration, versions, command, devices, and how it ended."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from vidreason.atomic_file import write_json_atomically
from vidreason.config import save_config
from vidreason.cores import available_cores
from vidreason.secrets import without_secrets
from vidreason.training.checkpoint import gather_parameters, hash_parameters
from vidreason.training.stage import StageModule

CONFIG_FILE = "config.yaml"
RECORD_FILE = "run.json"
WEIGHTS_FILE = "weights.jsonl"
GUIDE_FILE = "RUN.md"
GUIDE = """\
# What is in this folder

A run of vidreason's `experiments.fit`. Not all of these are in every run.

| File | What it is |
|---|---|
| `config.yaml` | The configuration with all its defaults; `--config` of every program reads it |
| `run.json` | Each start: time, command, versions, git revision, devices, and how it ended |
| `metrics.csv` | All logged metrics; `step` counts optimizer steps from 0 |
| `weights.jsonl` | A hash of all trained parameters at each checkpoint, for `experiments.repro` |
| `checkpoints/` | What trains, by step, to continue from; `last.ckpt` links to the newest |
| `reasoner/` | The trained model: `vidreason ask --model`, `experiments.evaluate` read it |
| `evaluation/` | Answers, scores and tables of `experiments.evaluate` |
| `benchmark/` | Answers to the benchmark during training |
| `speed.json` | Step times, samples and tokens a second, peak memory, when a run has ended |
| `skipped.jsonl` | Optimizer steps that were left out, why, and their samples |
| `failures.jsonl` | Videos that could not be read, with reasons |
| `samples-rank<r>.jsonl` | The ids of the samples of each micro-batch |
| `warm_start.json` | Which tensors of a Q-Former the fusion core started from |
| `tensorboard/`, `wandb/`, `mlflow.db` | The same metrics for these tools |
| `profile/` | Time and memory of single operations in a few steps |
| `loggers.json` | The names under which W&B and MLflow know the run |
| `fit.lock`, `evaluate.lock` | Locked while that runs; a file alone keeps nobody out |
| `debug/` | Runs for debugging, each a folder like this one |

The same command continues a run that was stopped; `python -m experiments.repro` on this folder does
its first steps again and compares them bit by bit.
"""
_PACKAGES = (
    *("vidreason", "torch", "torchvision", "lightning", "transformers", "peft"),
    *("segment-anything", "av", "numpy", "omegaconf", "safetensors", "tokenizers"),
)


@dataclass(eq=False)
class RunRecord(Callback):
    """Write ``config.yaml``, ``run.json`` and ``RUN.md`` before step 1.

    Each start adds an entry to ``run.json``, and, unless it is killed, the way it ended. Each
    checkpoint adds the hash of the trained parameters to ``weights.jsonl``.
    """

    config: Any
    """The resolved configuration dataclass."""
    run_dir: Path
    resumed_from: str | None = field(default=None, kw_only=True)
    """The checkpoint that this start continues from; Lightning does not tell."""
    record_samples: bool = field(default=False, kw_only=True)
    """Also append the ids of each consumed batch to ``samples-rank<r>.jsonl``, to trace what a step
    was trained on."""
    total_steps: int | None = field(default=None, kw_only=True)
    """Optimizer steps of the whole run; one that ends in order before them is not finished."""

    def __post_init__(self) -> None:
        self._started = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            write_run_record(
                self.config,
                self.run_dir,
                resumed_from=self.resumed_from,
                total_steps=self.total_steps,
                world_size=trainer.world_size,
                num_nodes=trainer.num_nodes,
                strategy=type(trainer.strategy).__name__,
                precision=str(trainer.precision),
            )
            self._started = True

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.record_samples:
            line = {"step": trainer.global_step, "epoch": trainer.current_epoch, "batch": batch_idx}
            path = self.run_dir / f"samples-rank{trainer.global_rank}.jsonl"
            with path.open("a") as file:
                file.write(json.dumps({**line, "ids": list(batch["ids"])}) + "\n")

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, StageModule)
        if any(hasattr(parameter, "ds_id") for parameter in pl_module.parameters()):
            return  # ZeRO-3 keeps the values to itself
        # All ranks take part; rank 0 gets the values.
        values = gather_parameters(pl_module.reasoner, pl_module.trainable)
        line = {"step": trainer.global_step, "hash": hash_parameters(values)}
        if trainer.is_global_zero:
            with (self.run_dir / WEIGHTS_FILE).open("a") as file:
                file.write(json.dumps(line) + "\n")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = trainer.early_stopping_callback
        reason = None if stop is None else stop.stopping_reason_message
        cause = f"stopped early: {reason}" if reason else "finished"
        if not reason and self.total_steps is not None and trainer.global_step < self.total_steps:
            # Whoever ended it early: the configuration, or one of the callbacks.
            by_setting = trainer.global_step >= trainer.max_steps
            cause = f"stopped by {'trainer.stop_after_steps' if by_setting else 'a callback'}"
        self._write_end(trainer, cause)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._write_end(trainer, without_secrets(f"{type(exception).__name__}: {exception}"))

    def _write_end(self, trainer: Trainer, cause: str) -> None:
        """Add how this start ended to its entry."""
        if not self._started:
            return
        starts = read_starts(self.run_dir)
        starts[-1]["end"] = {"time": _now(), "step": trainer.global_step, "cause": cause}
        _write_starts(self.run_dir / RECORD_FILE, starts)


def write_run_record(
    config: Any,  # noqa: ANN401 - any configuration dataclass
    run_dir: Path,
    *,
    resumed_from: str | None = None,
    total_steps: int | None = None,
    world_size: int = 1,
    **circumstances: str | int,
) -> None:
    """Write ``config.yaml`` and add one entry to the ``starts`` of ``run.json`` in ``run_dir``.

    Args:
        config: The resolved configuration.
        run_dir: The run's folder.
        resumed_from: The checkpoint that this start continues from.
        total_steps: Optimizer steps of the whole run, if it is one of steps.
        world_size: Number of processes.
        circumstances: Further values of the entry.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    record_path = run_dir / RECORD_FILE
    starts = read_starts(run_dir) if record_path.exists() else []
    starts.append(
        {
            "time": _now(),
            "command": without_secrets(shlex.join(sys.orig_argv)),
            "working_directory": os.getcwd(),
            "resumed_from": resumed_from,
            "total_steps": total_steps,
            "world_size": world_size,
            **circumstances,
            "host": socket.gethostname(),
            **software_and_hardware(),
        }
    )
    save_config(config, run_dir / CONFIG_FILE)
    (run_dir / GUIDE_FILE).write_text(GUIDE)
    _write_starts(record_path, starts)


def software_and_hardware() -> dict[str, Any]:
    """Return revision of the checkout, versions, processor and devices."""
    return {
        "threads": torch.get_num_threads(),
        "git": git_revision(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "devices": [
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        ],
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def read_starts(run_dir: Path) -> list[dict[str, Any]]:
    """Return the starts of a run, oldest first.

    Raises:
        ValueError: The folder holds no run.
    """
    path = run_dir / RECORD_FILE
    if not path.is_file():
        raise ValueError(f"{str(run_dir)!r} holds no {RECORD_FILE}: it is no folder of a run")
    starts: list[dict[str, Any]] = json.loads(path.read_text())["starts"]
    return starts


def recorded_threads(run_dir: Path) -> int | None:
    """Return the threads of the run's last start; None without one, or if cores are fewer now."""
    if not (run_dir / RECORD_FILE).is_file():
        return None
    threads = int(read_starts(run_dir)[-1]["threads"])
    return threads if threads <= available_cores() else None


def read_weight_hashes(run_dir: Path) -> dict[int, str]:
    """Return the hashes of the trained parameters by step, for the steps at which a run saved."""
    path = run_dir / WEIGHTS_FILE
    # The last line may be cut off by a kill.
    complete = path.read_text().rpartition("\n")[0] if path.exists() else ""
    lines = [json.loads(line) for line in complete.splitlines()]
    return {line["step"]: line["hash"] for line in lines}


def _write_starts(path: Path, starts: list[dict[str, Any]]) -> None:
    """Through a rename, so that a run killed here can still be resumed."""
    write_json_atomically(path, {"starts": starts})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_revision(checkout: Path) -> str | None:
    """Return the commit of ``checkout``, ``-dirty`` if it has changes; None without git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name from ``/proc/cpuinfo``; without that file, from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
