"""Damage in a checkpoint, found before anything is used.

A digest is over all that was written (:mod:`vidreason.training.checkpoint_digests`), so reading one
costs reading the checkpoint once: measured 1.4 GB/s where the processor has instructions for
SHA-256, 2 seconds for a checkpoint of 3 GB. A process looks at a checkpoint once, as long as its
size and time of change stay the same.
"""

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.checkpoint.api import CheckpointException

from vidreason.finite_values import (
    checkpoint_tensors,
    describe_nonfinite,
    nonfinite_names,
)
from vidreason.training.atomic_checkpoint import cause
from vidreason.training.checkpoint_digests import crc_damage, file_damage, folder_damage
from vidreason.training.checkpoint_forms import META_FILE, RECORD, is_complete, is_deepspeed

logger = logging.getLogger(__name__)

FIRST_VERSION_WITH_DIGEST = 2

DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, OSError, RuntimeError, EOFError, IndexError),
    *(ValueError, KeyError, AttributeError, TypeError, CheckpointException),
)
"""Errors of torch that a damaged checkpoint may lead to."""

_sound: dict[Path, object] = {}
"""Checkpoints without damage, with the sizes and times of change that they had then."""


def damage(path: Path) -> str:
    """The reason why the checkpoint at ``path`` cannot be used; empty if there is none."""
    stamp = _stamp(path)
    if stamp is not None and _sound.get(path.absolute()) == stamp:
        return ""
    found = _damage(path)
    if not found:
        _sound[path.absolute()] = stamp
    return found


def note_sound(path: Path) -> None:
    """Spare this process from reading a checkpoint again that it has just written."""
    _sound[path.absolute()] = _stamp(path)


def check_undamaged(path: Path) -> None:
    """Raise ``ValueError`` if the checkpoint at ``path`` is damaged."""
    if reason := damage(path):
        raise damaged(path, reason)


def damaged(path: Path, reason: str) -> ValueError:
    """The error for a checkpoint that cannot be used."""
    return ValueError(
        f"the checkpoint {str(path)!r} cannot be read: it is damaged, or not one of "
        f"experiments.fit ({reason}); copy it again, or take another of its run"
    )


def is_old(checkpoint: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    """Whether a checkpoint is from before checkpoints had digests."""
    record = checkpoint.get(RECORD) if isinstance(checkpoint, dict) else None
    version = record.get("format_version") if isinstance(record, dict) else None
    return not isinstance(version, int) or version < FIRST_VERSION_WITH_DIGEST


def load_file(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Unpickle a checkpoint's file without running anything; its tensors are mapped, not read."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def load_meta(folder: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Unpickle what a folder of torch's distributed format holds besides tensors."""
    return torch.load(folder / META_FILE, map_location="cpu", weights_only=True)


def _damage(path: Path) -> str:
    if not is_complete(path):
        if path.is_symlink() and not path.exists():
            return f"it links to {path.readlink()}, which is missing"
        return "it is incomplete" if path.exists() else "it is missing"
    try:
        if path.is_dir():
            return _damage_of_folder(path)
        found = file_damage(path)
        return _damage_of_old_file(path) if found is None else found
    except DAMAGE as error:
        return cause(error)


def _damage_of_folder(path: Path) -> str:
    found = folder_damage(path)
    if found is not None:
        return found
    if not is_deepspeed(path) and not is_old(load_meta(path)):
        return "its list of digests is missing"
    _say_once(path, "nothing in it can be compared with what was written")
    return ""


def _damage_of_old_file(path: Path) -> str:
    content = load_file(path)
    if not is_old(content):
        return "the digest at its end is missing or damaged"
    if found := crc_damage(path):
        return found
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        names = nonfinite_names(dict(checkpoint_tensors(content)))
        if names:
            return describe_nonfinite(names)
    _say_once(path, "the CRC-32 of each of its records is right")
    return ""


def _say_once(path: Path, checked: str) -> None:
    rank_zero_only(logger.warning)(
        "checkpoint %s is from before checkpoints had digests: %s", path, checked
    )


def _stamp(path: Path) -> object:
    """Sizes and times of change of a checkpoint's files; None if they cannot be told."""
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    return [(n, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in stats]
