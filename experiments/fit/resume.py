"""The start of a run: new, from the newest checkpoint of its folder, or from a given one."""

import dataclasses
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume_rules import changes, refused_changes, rule_of
from vidreason.training.checkpoint import CHECKPOINT_FOLDER, newest_checkpoint, read_record_alone

_INITIAL = ("reasoner.fusion.", "perceiver.video_encoder.")
"""Sections that give stage 1's weights their meaning."""
_NOT_INITIAL = (
    *("perceiver.video_encoder.weights", "perceiver.video_encoder.allow_random_weights"),
    *("perceiver.video_encoder.ignored_keys", "perceiver.video_encoder.dtype"),
)
"""Settings that may differ: the encoder's weights are compared by their hash."""


def checkpoint_folder(run_dir: str) -> Path:
    """The folder of a run's checkpoints."""
    return Path(run_dir) / CHECKPOINT_FOLDER


def resume_checkpoint(config: ExperimentConfig) -> str | None:
    """The checkpoint to continue from, by ``config.resume``; None to start at step 0.

    Raises:
        ValueError: The checkpoint was made with a configuration that learns something else, it is
            damaged or missing, or ``resume: never`` finds checkpoints.
    """
    # A debugging run begins anew: its folder is emptied, by another rank maybe just now.
    folder = checkpoint_folder(config.run_dir)
    if config.resume == "never":
        if not config.debug and any(folder.glob("*.ckpt")):
            raise ValueError(
                f"resume is 'never', but run_dir {config.run_dir!r} holds checkpoints: choose "
                "another run_dir, remove the folder, or continue with resume=auto"
            )
        return None
    if config.resume != "auto":
        newest: Path | None = _given_checkpoint(config.resume)
    else:
        newest = None if config.debug else newest_checkpoint(folder)
    if newest is not None:
        _check_same_experiment(config, newest)
    return None if newest is None else str(newest)


def checkpoint_step(checkpoint: str) -> int:
    """Optimizer steps that were made when a checkpoint was saved."""
    return int(read_record_alone(Path(checkpoint))["global_step"])


def check_initial_checkpoint(config: ExperimentConfig) -> None:
    """Make sure that stage 1's weights mean under ``config`` what they meant when they were made.

    Raises:
        ValueError: ``initial_checkpoint`` is damaged, or its fusion core was another network, or
            looked at another encoder's tokens; the message lists all differences.
    """
    if not config.initial_checkpoint:
        return
    path = Path(config.initial_checkpoint)
    former = read_record_alone(path)["config"]
    changed = [
        str(change)
        for change in changes(former, dataclasses.asdict(config))
        if change.key.startswith(_INITIAL)
        and change.key not in _NOT_INITIAL
        and not _is_without_effect(change.key, config)
    ]
    if changed:
        raise ValueError(
            f"initial_checkpoint {str(path)!r} is of another fusion core than is configured, or of "
            f"one for another encoder ({'; '.join(changed)}): restore the values it was made with"
        )


def _given_checkpoint(name: str) -> Path:
    path = Path(name)
    if path.is_symlink() and not path.exists():
        raise ValueError(f"resume: {name!r} links to {str(path.readlink())!r}, which is missing")
    if not path.exists():
        raise ValueError(f"resume: there is no checkpoint {name!r} (nor is it 'auto' or 'never')")
    return path


def _check_same_experiment(config: ExperimentConfig, checkpoint: Path) -> None:
    record = read_record_alone(checkpoint)
    former, present = record["config"], dataclasses.asdict(config)
    # Before all settings, of which many differ between the stages.
    if record["stage"] != config.stage:
        raise ValueError(
            f"{str(checkpoint)!r} is of the stage {record['stage']!r}, and this run of "
            f"{config.stage!r}: to start stage 2 from it, set initial_checkpoint to its path"
        )
    refused = refused_changes(former, present, record["frozen"])
    if refused:
        raise ValueError(
            f"{str(checkpoint)!r} cannot be continued with another configuration than it was made "
            f"with ({'; '.join(map(str, refused))}): restore these values, or begin a new run in "
            "another run_dir"
        )


def say_changes(config: ExperimentConfig, checkpoint: str) -> None:
    """Say which differences to a checkpoint are left to content hashes, or make the run longer."""
    former, present = read_record_alone(Path(checkpoint))["config"], dataclasses.asdict(config)
    moved = [c for c in changes(former, present) if rule_of(c.key) in ("content", "longer")]
    if moved:
        rank_zero_info(f"since the checkpoint was made: {'; '.join(map(str, moved))}")


def _is_without_effect(key: str, config: ExperimentConfig) -> bool:
    if key == "reasoner.fusion.warm_start":
        return not config.reasoner.fusion.warm_start  # stage 1 may have had such a start
    return key == "perceiver.video_encoder.seed" and bool(config.perceiver.video_encoder.weights)
