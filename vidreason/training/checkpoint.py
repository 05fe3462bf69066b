"""Checkpoints that hold what trains and nothing else: the frozen 8B are not written 100 times.

Here are the trainable parameters: gathered from all processes, checked, loaded; and which of a
folder's checkpoints counts. What else a checkpoint says is in
:mod:`vidreason.training.checkpoint_format`, how it lies on the disk in
:mod:`vidreason.training.checkpoint_files`.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from vidreason.model import VideoReasoner
from vidreason.training.checkpoint_damage import damage
from vidreason.training.checkpoint_files import read_weights_and_record
from vidreason.training.checkpoint_format import read_record
from vidreason.training.sharded_values import is_rank_zero, shard_like, whole

logger = logging.getLogger(__name__)

PREFIX = "reasoner."
"""Of a reasoner's names in a LightningModule's state."""
CHECKPOINT_FOLDER = "checkpoints"
"""In a run folder."""
LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
_STEP_NAME = re.compile(r"step-(\d+)\.ckpt")


def gather_parameters(module: nn.Module, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The whole values of the parameters ``names``, wherever their shards are, one at a time.

    Collective: all ranks iterate to the end. Rank 0 gets names, in alphabetical order, and tensors
    on the CPU, which may be the parameters' own memory; the others get nothing.
    """
    parameters = dict(module.named_parameters())
    missing = sorted(set(names) - parameters.keys())
    assert not missing, f"not among the parameters: {missing}"
    for name in sorted(names):
        value = whole(parameters[name]).detach()
        if is_rank_zero():
            yield name, value.cpu()


def gather_trainable(module: nn.Module) -> dict[str, Tensor]:
    """The whole values of all parameters that require gradients; see :func:`gather_parameters`."""
    names = [name for name, value in module.named_parameters() if value.requires_grad]
    return dict(gather_parameters(module, names))


def trainable_state(module: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """The parameters ``names`` of a reasoner under their names in a checkpoint; shards as they are.

    Args:
        module: The reasoner.
        names: What trains at any time of the run.
    """
    parameters = dict(module.named_parameters())
    # A strategy that renames or flattens parameters would lose them here without a word.
    missing = sorted(set(names) - parameters.keys())
    assert not missing, f"not in the state to save: {missing}"
    return {PREFIX + name: parameters[name].detach() for name in sorted(names)}


def check_trainable(found: Collection[str], names: Collection[str], source: str) -> None:
    """Make sure that a checkpoint's keys ``found`` are those of the trainable ``names``.

    Raises:
        ValueError: It does not; the message names the difference and ``source``.
    """
    wanted = {PREFIX + name for name in names}
    missing, unexpected = sorted(wanted.difference(found)), sorted(set(found) - wanted)
    if missing or unexpected:
        raise ValueError(
            f"{source} does not hold what this run trains: missing {_some(missing)}, unexpected "
            f"{_some(unexpected)}; use the stage, fusion and lora settings that it was made with"
        )


def check_shapes(state: Mapping[str, Tensor], reasoner: nn.Module, source: str) -> None:
    """Make sure that the values of a checkpoint have the shapes of a reasoner's parameters.

    Raises:
        ValueError: Some have not; the message names the first of them.
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
        names: What it must hold.

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
    with torch.no_grad():
        for name in names:
            value, parameter = state[PREFIX + name], parameters[name]
            parameter.copy_(shard_like(value, parameter))


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint written last in ``folder`` that is not damaged; None if there is none at all.

    It is what ``last.ckpt`` links to. Should that be missing or damaged, which is then said, it is
    the sound one of the highest step.

    Raises:
        ValueError: All checkpoints there are damaged.
    """
    folder = Path(folder)
    candidates = [folder / LAST_CHECKPOINT, *reversed(step_checkpoints(folder))]
    found = {c: damage(c) for c in candidates[:1] if c.exists() or c.is_symlink()}
    if "" in found.values():
        return candidates[0].resolve()
    for candidate in candidates[1:]:
        reason = damage(candidate)
        if not reason:
            _say_damage(found, candidate)
            return candidate.resolve()
        found[candidate] = reason
    if found:
        raise ValueError(
            f"all checkpoints in {str(folder)!r} are damaged: {_reasons(found)}; restore one from "
            "a copy, or remove the folder to begin anew"
        )
    return None


@rank_zero_only
def _say_damage(reasons: Mapping[Path, str], used: Path) -> None:
    if reasons:
        logger.warning("damaged, and left alone: %s; using %s", _reasons(reasons), used)


def _reasons(reasons: Mapping[Path, str]) -> str:
    return "; ".join(f"{path.name}: {reason}" for path, reason in reasons.items())


def step_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints named by step, files or folders, lowest step first."""
    return sorted(path for path in folder.glob("step-*.ckpt") if _STEP_NAME.fullmatch(path.name))


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
