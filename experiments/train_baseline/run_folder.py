"""Files in the folder of a run beside the weights: its settings, its scores, failed videos."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.program import FAILURES_FILE
from experiments.train_baseline.config import TrainBaselineConfig
from vidreason.atomic_file import write_json_atomically
from vidreason.json_object import read_json_object
from vidreason.video.failures import FailureLog

SETTINGS_FILE, SCORES_FILE = "settings.json", "scores.json"


def check_settings(folder: Path, config: TrainBaselineConfig) -> None:
    """Refuse to go on with a run of other settings.

    Raises:
        ValueError: ``folder`` holds a run of other settings.
    """
    path = folder / SETTINGS_FILE
    # By their JSON: where the configuration has tuples, the file has lists.
    if path.is_file() and _digest(read_json_object(path)) != _digest(_settings(config)):
        raise ValueError(
            f"run_dir {str(folder)!r} holds a run of other settings ({path}): choose another "
            "run_dir, or remove that folder to begin anew"
        )


def save_settings(folder: Path, config: TrainBaselineConfig) -> None:
    """Write the settings of a run, once its data are read: those of a mistake bind nobody."""
    write_json_atomically(folder / SETTINGS_FILE, _settings(config))


def save_scores(folder: Path, scores: Mapping[str, Any]) -> None:
    """Write the scores of a finished training."""
    write_json_atomically(folder / SCORES_FILE, scores)


def failure_log(config: TrainBaselineConfig, num_samples: int) -> FailureLog:
    """Return the log of the videos that cannot be read, of which ``data`` says how many may be."""
    # Each kind has a section of its name.
    most = getattr(config, config.kind).data.max_unreadable_fraction
    setting = f"{config.kind}.data.max_unreadable_fraction"
    return FailureLog(Path(config.run_dir) / FAILURES_FILE, most, num_samples, setting=setting)


def _settings(config: TrainBaselineConfig) -> dict[str, Any]:
    """The part of a configuration that decides what is learnt: where it runs is none of it."""
    values = dataclasses.asdict(config)
    return {name: values[name] for name in ("kind", "seed", config.kind)}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
