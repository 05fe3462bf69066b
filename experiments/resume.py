"""Where a run starts from: nothing, the newest checkpoint of its folder, or a given one."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callbacks.run_record import CONFIG_FILE
from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.training.checkpoint import CHECKPOINT_FOLDER, newest_checkpoint

# What may differ between the two halves of one run: it decides where, how fast and how closely
# watched a run is, not what the model learns. The global order of samples does not depend on the
# batch size per device or on workers.
_MAY_CHANGE = (
    *(
        "run_dir",
        "debug",
        "resume",
        "device",
        "model",
        "frozen_parts",
        "video",
        "prompt",
        "predict",
    ),
    "controls",
    *("store.path", "store.shard_megabytes", "store.flush_seconds", "store.check_media"),
    *("perceive", "evaluation", "decoding", "sample_generations"),
    "evaluate_during_training",
    *("data.batch_size", "data.num_workers", "data.validation", "data.benchmark"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.sharded_checkpoints", "trainer.compile"),
    *("trainer.stop_after_steps", "trainer.log_every_n_steps", "trainer.validate_every_n_steps"),
    *("trainer.checkpoint_every_n_steps", "trainer.keep_checkpoints", "trainer.record_samples"),
    *("trainer.keep_best", "trainer.monitor", "trainer.monitor_mode"),
    *("trainer.stop_after_stalls", "trainer.stop_min_delta", "trainer.log_devices"),
    "guard.max_skipped",
    *("trainer.loggers", "trainer.save_reasoner", "trainer.rehearse_largest_batch"),
    "trainer.profile_steps",
)

_ABSENT = object()


def checkpoint_folder(run_dir: str) -> Path:
    """The folder of a run's checkpoints."""
    return Path(run_dir) / CHECKPOINT_FOLDER


def resume_checkpoint(config: ExperimentConfig) -> str | None:
    """The checkpoint to continue from, by ``config.resume``; None to start at step 0.

    Raises:
        ValueError: The run folder was made with a configuration that learns something else;
            ``resume: never`` finds checkpoints in it; or the given checkpoint does not exist.
    """
    # A debugging run begins anew: its folder is emptied, by another rank maybe just now.
    newest = None if config.debug else newest_checkpoint(checkpoint_folder(config.run_dir))
    if config.resume == "never":
        if newest is not None:
            raise ValueError(
                f"resume is 'never', but run_dir {config.run_dir!r} holds checkpoints "
                f"({newest.name}): choose another run_dir, remove the folder, or continue with "
                "resume=auto"
            )
        return None
    if config.resume != "auto":
        if not Path(config.resume).exists():
            raise ValueError(
                f"resume: there is no checkpoint {config.resume!r} (nor is it 'auto' or 'never')"
            )
        newest = Path(config.resume)
    if newest is not None and not config.debug:
        _check_same_experiment(config, newest)
    return None if newest is None else str(newest)


def _check_same_experiment(config: ExperimentConfig, checkpoint: Path) -> None:
    recorded = Path(config.run_dir) / CONFIG_FILE
    if not recorded.is_file():
        return  # a checkpoint of another run, given by path
    former = learnt_settings(merge_config(ExperimentConfig, [str(recorded)]))
    present = learnt_settings(config)
    changes = [
        f"{key}: {former.get(key, 'absent')!r} -> {present.get(key, 'absent')!r}"
        for key in dict.fromkeys([*former, *present])
        if former.get(key, _ABSENT) != present.get(key, _ABSENT)
    ]
    if changes:
        raise ValueError(
            f"run_dir {config.run_dir!r} was made with another configuration and cannot continue "
            f"from {checkpoint.name} ({'; '.join(changes)}): choose another run_dir, or restore "
            "these values"
        )


def learnt_settings(config: ExperimentConfig) -> dict[str, Any]:
    """The part of a configuration that decides what a run learns: values by dotted key."""
    return {key: value for key, value in _leaves(config) if not _may_change(key)}


def _may_change(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _MAY_CHANGE)


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any dataclass
    """Dotted keys and values of a configuration; lists count as one value."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value
