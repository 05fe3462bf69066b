"""The commands of ``experiments.checkpoint``."""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from experiments.experiment_config import ExperimentConfig
from vidreason.atomic_file import atomic_file
from vidreason.config import merge_config
from vidreason.training.checkpoint import (
    PREFIX,
    check_trainable,
    find_checkpoint,
)
from vidreason.training.checkpoint_damage import (
    check_undamaged,
    is_deepspeed,
    is_folder,
)
from vidreason.training.checkpoint_files import (
    AVERAGE,
    answering_weights,
    deepspeed_content,
    read_checkpoint,
    write_file,
    write_folder,
)
from vidreason.training.checkpoint_format import RECORD, read_record


def inspect(arguments: argparse.Namespace) -> None:
    """Print what the checkpoint says of itself and what it holds."""
    path = find_checkpoint(arguments.path)
    checkpoint = read_checkpoint(path)
    record = read_record(checkpoint, str(path))
    form = "distributed folder" if path.is_dir() else "file"
    print(f"{path}: {form} of {_size(_bytes_on_disk(path))}, format {record['format_version']}")
    print(f"stage {record['stage']}, step {checkpoint['global_step']}, epoch {checkpoint['epoch']}")
    print(f"written by {record['world_size']} processes, with the random states of each")
    for name, value in checkpoint.items():
        # Lightning keeps a data module's state under the name of its class.
        if isinstance(value, Mapping) and "DataModule" in name:
            position = ", ".join(f"{key} {value[key]}" for key in value)
            print(f"data position: {position}")
    for part, content_hash in sorted(record["frozen"].items()):
        print(f"frozen {part}: {content_hash}")
    print(f"callbacks: {', '.join(sorted(checkpoint.get('callbacks', {}))) or 'none with a state'}")
    _print_parts(checkpoint)
    if arguments.tensors:
        for name, value in sorted(checkpoint["state_dict"].items()):
            print(f"  {name}  {tuple(value.shape)}  {str(value.dtype).removeprefix('torch.')}")
    if arguments.config or arguments.overrides:
        # In the form of the record: plain values by key.
        present = dataclasses.asdict(
            merge_config(ExperimentConfig, arguments.config, arguments.overrides)
        )
        lines = list(differences(record["config"], present))
        print(f"the given configuration differs in {len(lines)} values")
        for line in lines:
            print(f"  {line}")


def consolidate(arguments: argparse.Namespace) -> None:
    """Make one file of a folder."""
    path, out = find_checkpoint(arguments.path), _free_place(arguments.out)
    if is_deepspeed(path):
        # read_checkpoint looks for damage itself; DeepSpeed's reader does not.
        check_undamaged(path)
        write_file(_trained_by_deepspeed(path), out)
        print(f"{out}: what was trained; the optimizer's state stays in {path}")
        return
    if not is_folder(path):
        raise ValueError(f"{str(path)!r} is one file already")
    write_file(read_checkpoint(path), out)
    print(f"{out}: one file of {_size(_bytes_on_disk(out))}")


def convert(arguments: argparse.Namespace) -> None:
    """Write the checkpoint in another form."""
    path, out = find_checkpoint(arguments.path), _free_place(arguments.out)
    checkpoint = read_checkpoint(path)
    record = read_record(checkpoint, str(path))
    if arguments.to == "file":
        write_file(checkpoint, out)
    elif arguments.to == "distributed":
        write_folder(checkpoint, out)
    else:
        # The average, where there is one: what a run answers with.
        state = answering_weights(checkpoint)
        # Under the reasoner's own names; safetensors takes no strided view.
        values = {n.removeprefix(PREFIX): v.contiguous() for n, v in state.items()}
        frozen = {f"frozen_{part}": text for part, text in record["frozen"].items()}
        with atomic_file(out) as file:
            # The format that transformers asks for, and which frozen parts the values go with.
            file.write(save(values, metadata={"format": "pt", **frozen}))
    print(f"{out}: {arguments.to}, {_size(_bytes_on_disk(out))}")


def differences(recorded: Any, present: Any, key: str = "") -> list[str]:  # noqa: ANN401
    """List the differences of two configurations of plain values, a line each."""
    if isinstance(recorded, dict) and isinstance(present, dict):
        lines = []
        for name in dict.fromkeys([*recorded, *present]):
            lower = f"{key}.{name}" if key else name
            lines += differences(recorded.get(name, "absent"), present.get(name, "absent"), lower)
        return lines
    # Lists are compared whole.
    return [] if recorded == present else [f"{key}: {recorded!r} -> {present!r}"]


def _trained_by_deepspeed(folder: Path) -> dict[str, Any]:
    """Return the trained parameters, in float32, of a folder that DeepSpeed has written.

    The result is a checkpoint to start from or to export, not to resume: DeepSpeed's optimizer
    states are cut by its own rules.

    Raises:
        ValueError: DeepSpeed is not installed, or the folder is not of experiments.fit.
    """
    try:
        # The one reader that may run what a checkpoint holds: see the head of __main__.
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
    # No run has 0 processes, so none takes random states from it.
    record = read_record(content, str(folder)) | {"world_size": 0, "rng": []}
    check_trainable(values, record["trainable"], str(folder))
    progress = {key: content[key] for key in ("epoch", "global_step", "pytorch-lightning_version")}
    return {**progress, "state_dict": dict(values), RECORD: record}


def _print_parts(checkpoint: Mapping[str, Any]) -> None:
    """Numbers of tensors, values and bytes by part, with the optimizer's."""
    # By part: number of tensors, of values, and bytes.
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    # States of each optimizer by parameter name, each a table of fields.
    optimizer = [state["state"] for state in checkpoint.get("optimizer_states", [])]
    for name, value in checkpoint["state_dict"].items():
        _count(rows[_part(name)], value)
    for name, value in checkpoint.get(AVERAGE, {}).items():
        _count(rows[f"{_part(name)}, average"], value)
    for state in optimizer:
        for name, fields in state.items():
            for value in fields.values():
                # A step count may be a plain number.
                if isinstance(value, Tensor):
                    _count(rows[f"{_part(name)}, optimizer"], value)
    for part, (tensors, values, size) in sorted(rows.items()):
        print(f"{part:>24}: {tensors:5} tensors, {values:13,} values, {_size(size):>10}")


def _count(row: list[int], value: Tensor) -> None:
    row[0] += 1
    row[1] += value.numel()
    row[2] += value.numel() * value.element_size()


def _part(name: str) -> str:
    if ".lora_" in name:
        return "lora"
    return name.removeprefix(PREFIX).split(".")[0]


def _free_place(out: str) -> Path:
    path = Path(out)
    if path.exists():
        raise ValueError(f"{out!r} is there already; name another place, or remove it")
    return path


def _bytes_on_disk(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.4g} GB"
