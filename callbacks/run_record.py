"""What was run: configuration, versions, git revision and command, in the run's own folder."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from vidreason.config import save_config

CONFIG_FILE = "config.yaml"
RECORD_FILE = "run.json"
_PACKAGES = (
    *("vidreason", "torch", "torchvision", "lightning", "transformers", "peft"),
    *("segment-anything", "av", "numpy", "omegaconf", "safetensors", "tokenizers"),
)


class RunRecord(Callback):
    """Write ``config.yaml`` and ``run.json`` before step 1; each start adds an entry to the latter.

    Args:
        config: The resolved configuration dataclass.
        run_dir: The run's folder.
        resumed_from: The checkpoint that this start continues from; Lightning does not tell.
        record_samples: Also append the ids of each consumed batch to ``samples-rank<r>.jsonl``, to
            trace what a step was trained on.
    """

    def __init__(
        self,
        config: Any,  # noqa: ANN401 - any dataclass
        run_dir: str,
        *,
        resumed_from: str | None = None,
        record_samples: bool = False,
    ) -> None:
        self.config = config
        self.run_dir = Path(run_dir)
        self.resumed_from = resumed_from
        self.record_samples = record_samples

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            write_run_record(
                self.config,
                self.run_dir,
                resumed_from=self.resumed_from,
                world_size=trainer.world_size,
            )

    @override
    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.record_samples:
            line = {"step": trainer.global_step, "epoch": trainer.current_epoch, "batch": batch_idx}
            path = self.run_dir / f"samples-rank{trainer.global_rank}.jsonl"
            with path.open("a") as file:
                file.write(json.dumps({**line, "ids": list(batch["ids"])}) + "\n")


def write_run_record(
    config: Any,  # noqa: ANN401 - any configuration dataclass
    run_dir: Path,
    *,
    resumed_from: str | None = None,
    world_size: int = 1,
) -> None:
    """Write ``config.yaml`` and add one entry to the ``starts`` of ``run.json`` in ``run_dir``."""
    run_dir.mkdir(parents=True, exist_ok=True)
    record_path = run_dir / RECORD_FILE
    starts = json.loads(record_path.read_text())["starts"] if record_path.exists() else []
    starts.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": shlex.join(sys.orig_argv),
            "working_directory": os.getcwd(),
            "resumed_from": resumed_from,
            "world_size": world_size,
            "git": git_revision(Path(__file__).parents[1]),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "devices": [
                torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
            ],
            "versions": {name: _version(name) for name in _PACKAGES},
        }
    )
    save_config(config, run_dir / CONFIG_FILE)
    # Through a rename, so that a run killed here can still be resumed.
    partial = record_path.with_suffix(".partial")
    partial.write_text(json.dumps({"starts": starts}, indent=1) + "\n")
    os.replace(partial, record_path)


def git_revision(checkout: Path) -> str | None:
    """The commit of ``checkout``, ``-dirty`` if tracked files were changed; None without git."""
    command = [
        "git",
        "-C",
        str(checkout),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
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
