"""Checkpoints of other forms become today's: from before the format had a version, and DeepSpeed's.

An old file holds the trained parameters and torch's own form of the optimizer's state, which knows
parameters by number. The numbers were given by one rule: first the parameters with weight decay,
then those without, each in the module's order, which is that of the file.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor

from callbacks.run_record import CONFIG_FILE
from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.pretrained.frozen_parts import frozen_hashes
from vidreason.training.checkpoint import PREFIX, check_trainable
from vidreason.training.checkpoint_format import (
    Recorded,
    RunIdentity,
    make_record,
    read_record,
)
from vidreason.training.checkpoint_forms import RECORD
from vidreason.training.checkpoint_records import deepspeed_content

_WITHOUT_STATES = {"world_size": 0, "rng": []}
"""What a record says where no random states were kept."""


def upgrade_old(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """An old checkpoint in today's format; its frozen parts are taken to be those there now.

    Args:
        checkpoint: What the old file holds.
        path: Where it is; the configuration of its run lies beside it or above.

    Raises:
        ValueError: Its run's configuration is not there; a frozen part is not where that says; or
            the optimizer's state is not that of the parameters.
    """
    state: dict[str, Tensor] = checkpoint["state_dict"]
    names = [name.removeprefix(PREFIX) for name in state]
    if not any(name.startswith("fusion.") for name in names):
        raise ValueError(
            f"{str(path)!r} is no checkpoint of experiments.fit: no key in it begins with "
            f"{PREFIX + 'fusion.'!r}"
        )
    config = _run_config(path)
    identity = RunIdentity(
        dataclasses.asdict(config),
        lambda: frozen_hashes(config.reasoner.language_model, config.perceiver),
    )
    run = SimpleNamespace(identity=identity, stage=config.stage, trainable=frozenset(names))
    record = make_record(cast(Recorded, run)) | _WITHOUT_STATES
    optimizers = [_by_names(old, state, path) for old in checkpoint.get("optimizer_states", [])]
    return {**checkpoint, "optimizer_states": optimizers, RECORD: record}


def consolidate_deepspeed(folder: Path) -> dict[str, Any]:
    """What was trained, in float32, of a folder that DeepSpeed has written.

    The result is a checkpoint to start from or to export, not to resume: DeepSpeed's optimizer
    states are cut by its own rules.

    Raises:
        ValueError: DeepSpeed is not installed, or the folder is not of experiments.fit.
    """
    try:
        from deepspeed.utils import zero_to_fp32  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ValueError(
            f"{str(folder)!r} is a folder of DeepSpeed, which only DeepSpeed reads: "
            "pip install 'vidreason[deepspeed]'"
        ) from error
    values = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(
        str(folder), exclude_frozen_parameters=True
    )
    content = deepspeed_content(folder)
    record = read_record(content, str(folder)) | _WITHOUT_STATES
    place = {key: content[key] for key in ("epoch", "global_step", "pytorch-lightning_version")}
    check_trainable(values, record["trainable"], str(folder))
    return {**place, "state_dict": dict(values), RECORD: record}


def _run_config(path: Path) -> ExperimentConfig:
    for folder in (path.resolve().parent, path.resolve().parent.parent):
        if (folder / CONFIG_FILE).is_file():
            return merge_config(ExperimentConfig, [str(folder / CONFIG_FILE)])
    raise ValueError(
        f"{str(path)!r} is from before checkpoints said what they are of, and there is no "
        f"{CONFIG_FILE} beside it nor above: put its run's there"
    )


def _by_names(old: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The optimizer's state by names, from one by numbers."""
    undecayed = [n for n, v in state.items() if v.ndim < 2 or n.rpartition(".")[2] == "queries"]
    decayed = [name for name in state if name not in set(undecayed)]
    names = [*decayed, *undecayed]
    groups = [{**g, "params": [names[i] for i in g["params"]]} for g in old["param_groups"]]
    for number, fields in old["state"].items():
        if fields["exp_avg"].shape != state[names[number]].shape:
            raise ValueError(
                f"{str(path)!r}: the optimizer's state number {number} has shape "
                f"{tuple(fields['exp_avg'].shape)}, its parameter {names[number]} "
                f"{tuple(state[names[number]].shape)}; it is damaged, or none of experiments.fit"
            )
    by_name = {names[number]: fields for number, fields in old["state"].items()}
    return {**old, "state": by_name, "param_groups": groups}
