"""Checkpoints that hold what trains and nothing else: the frozen 8B are not written 100 times.

Here the trainable parameters are gathered from all processes, checked and loaded, and the newest
checkpoint of a folder is chosen. The other content of a checkpoint is in
:mod:`vidreason.training.checkpoint_format`, its form on disk in
:mod:`vidreason.training.checkpoint_files`.
"""

import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from vidreason.model import VideoReasoner
from vidreason.training.checkpoint_damage import damage, is_complete
from vidreason.training.checkpoint_files import read_weights_and_record, read_without_tensors
from vidreason.training.checkpoint_format import read_record
from vidreason.training.sharded_values import is_rank_zero, shard_like, whole

logger = logging.getLogger(__name__)

PREFIX = "reasoner."
"""Prefix of a reasoner's names in a LightningModule's state."""
CHECKPOINT_FOLDER = "checkpoints"
"""In a run folder."""
LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
_STEP_NAME = re.compile(r"step-(\d+)\.ckpt")


def gather_parameters(module: nn.Module, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the whole values of the parameters ``names``, one at a time, wherever their shards are.

    Collective: all ranks iterate to the end. Rank 0 gets names, in alphabetical order, and tensors
    on the CPU, which may be views of the parameters; the others get nothing.
    """
    parameters = dict(module.named_parameters())
    missing = sorted(set(names) - parameters.keys())
    assert not missing, f"not among the parameters: {missing}"
    for name in sorted(names):
        # Gathered on all ranks, though only rank 0 gets it.
        value = whole(parameters[name]).detach()
        if is_rank_zero():
            yield name, value.cpu()


def hash_parameters(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """Return a blake2b over names, dtypes, shapes and bits, to compare trainings bit by bit.

    Args:
        parameters: In a fixed order, as from :func:`gather_parameters`; one is held at a time.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in parameters:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # Bits, not values: -0.0 and 0.0 differ, and a NaN equals itself.
        bits = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(bits.numpy().data)  # no copy
    return digest.hexdigest()


def trainable_state(module: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Return the parameters ``names`` of a reasoner by their names in a checkpoint; shards stay.

    Args:
        module: The reasoner.
        names: Parameters that train at any time of the run.
    """
    parameters = dict(module.named_parameters())
    # A strategy that renames or flattens parameters would lose them here silently.
    missing = sorted(set(names) - parameters.keys())
    assert not missing, f"not in the state to save: {missing}"
    return {PREFIX + name: parameters[name].detach() for name in sorted(names)}


def check_trainable(keys: Collection[str], names: Collection[str], source: str) -> None:
    """Make sure that a checkpoint's ``keys`` are those of the trainable ``names``.

    Raises:
        ValueError: They are not; the message names the difference and ``source``.
    """
    wanted = {PREFIX + name for name in names}
    missing, unexpected = sorted(wanted.difference(keys)), sorted(set(keys) - wanted)
    if missing or unexpected:
        raise ValueError(
            f"{source} does not hold what this run trains: missing {_some(missing)}, unexpected "
            f"{_some(unexpected)}; use the stage, fusion and lora settings that it was made with"
        )


def check_shapes(state: Mapping[str, Tensor], reasoner: nn.Module, source: str) -> None:
    """Make sure that the values of a checkpoint have the shapes of a reasoner's parameters.

    Raises:
        ValueError: Some have others; the message names the first three.
    """
    shapes = {PREFIX + name: tuple(p.shape) for name, p in reasoner.named_parameters()}
    others = [
        f"{name.removeprefix(PREFIX)} has shape {tuple(value.shape)}, the configuration makes it "
        f"{shapes[name]}"
        for name, value in state.items()
        if name in shapes and tuple(value.shape) != shapes[name]
    ]
    if others:
        more = f"; and {len(others) - 3} more" if len(others) > 3 else ""
        raise ValueError(f"{source}: {'; '.join(others[:3])}{more}")


def load_trainable(
    reasoner: VideoReasoner, path: str | Path, names: Collection[str]
) -> dict[str, str]:
    """Give the parameters ``names`` of ``reasoner`` the values in a checkpoint of any form.

    Args:
        reasoner: Its parameters may be sharded.
        path: A checkpoint: a file, or a folder of a distributed one.
        names: Parameters that it must hold.

    Returns:
        Content hashes of the frozen parts that the checkpoint was made with.

    Raises:
        ValueError: There is no such checkpoint, or it does not hold exactly these parameters, or
            they have other shapes there.
    """
    if not Path(path).exists():
        raise ValueError(
            f"there is no checkpoint {str(path)!r}; give the path of one that stage 1 has written"
        )
    checkpoint = read_weights_and_record(Path(path))
    record = read_record(checkpoint, str(path))
    check_trainable(checkpoint["state_dict"], names, str(path))
    copy_state(reasoner, checkpoint["state_dict"], names, str(path))
    return dict(record["frozen"])


def copy_state(
    reasoner: nn.Module, state: Mapping[str, Tensor], names: Collection[str], source: str
) -> None:
    """Copy whole or sharded values into parameters that are whole or sharded.

    Raises:
        ValueError: A shape is another one.
    """
    parameters = dict(reasoner.named_parameters())
    check_shapes({PREFIX + name: state[PREFIX + name] for name in names}, reasoner, source)
    # In place: optimizer and strategies hold these very parameters.
    with torch.no_grad():
        for name in names:
            value, parameter = state[PREFIX + name], parameters[name]
            parameter.copy_(shard_like(value, parameter))


def read_record_alone(path: Path) -> dict[str, Any]:
    """Read the record of a checkpoint of any form, with its ``global_step``, and no tensors.

    Raises:
        ValueError: There is no such checkpoint, it is damaged, or it has no such record.
    """
    content = read_without_tensors(path)
    return {**read_record(content, str(path)), "global_step": content.get("global_step", 0)}


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint at ``path``, or the newest one of a run folder or its checkpoints.

    Raises:
        ValueError: There is none.
    """
    path = Path(path)
    if path.is_dir() and not is_complete(path):
        newest = newest_checkpoint(path / CHECKPOINT_FOLDER) or newest_checkpoint(path)
        if newest is None:
            raise ValueError(
                f"{str(path)!r} holds no complete checkpoint; give a run folder, such as "
                f"runs/stage2, with {CHECKPOINT_FOLDER}/, or a checkpoint in one"
            )
        return newest
    if path.exists():
        return path.resolve()
    raise ValueError(f"there is no run folder and no checkpoint {str(path)!r}")


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Return the checkpoint written last in ``folder`` that is not damaged; None without any.

    It is the one that ``last.ckpt`` links to. Should that be missing or damaged, which is reported,
    it is the sound one of the highest step.

    Raises:
        ValueError: All checkpoints there are damaged.
    """
    # The link first, then all of them from the highest step down.
    last = Path(folder) / LAST_CHECKPOINT
    # a broken link is reported, too
    candidates = [last] if last.exists() or last.is_symlink() else []
    reasons: list[str] = []
    for candidate in [*candidates, *reversed(step_checkpoints(Path(folder)))]:
        reason = damage(candidate)
        if not reason:
            if reasons:
                rank_zero_only(logger.warning)(
                    "damaged, and left alone: %s; using %s", "; ".join(reasons), candidate
                )
            return candidate.resolve()
        reasons.append(f"{candidate.name}: {reason}")
    if reasons:
        raise ValueError(
            f"all checkpoints in {str(folder)!r} are damaged: {'; '.join(reasons)}; restore one "
            "from a copy, or remove the folder to begin anew"
        )
    return None


def step_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints named by step, files or folders, lowest step first."""
    return sorted(path for path in folder.glob("step-*.ckpt") if _STEP_NAME.fullmatch(path.name))


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
