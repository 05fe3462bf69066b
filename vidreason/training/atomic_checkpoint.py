"""Atomic writes of checkpoints, files or folders: under another name, flushed, then renamed.

A process killed at any instant leaves nothing torn under the name of a checkpoint.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from vidreason.atomic_file import UNFINISHED
from vidreason.errors import ReportedError
from vidreason.training.sharded_values import is_rank_zero

PARTIAL = ".partial"
"""Suffix of checkpoints that are being written, or that a killed process has left unfinished."""


class CheckpointWriteError(ReportedError, OSError):
    """A checkpoint could not be written; the former ones are as they were."""


def partial_path(target: Path) -> Path:
    """Return the path under which a checkpoint is written before it gets its name."""
    return target.with_name(target.name + PARTIAL)


def prepare(target: Path) -> None:
    """Make the folder of a checkpoint, without leftovers of processes that were killed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending in (PARTIAL, UNFINISHED):
        for leftover in target.parent.glob(f"*{ending}"):
            remove(leftover)


def _flush(*paths: Path) -> None:
    """Let files and folders reach the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(target: Path) -> None:
    """Flush what was written under the partial name to the disk, and rename it."""
    partial = partial_path(target)
    # The content before the name: a crash of the machine leaves no file without it.
    _flush(*partial.rglob("*"), partial)
    former = target.with_name(f"{target.name}.former{PARTIAL}")
    if target.is_dir() or (partial.is_dir() and target.exists()):
        os.replace(target, former)  # a folder cannot be replaced in one step
    os.replace(partial, target)
    remove(former)
    _flush(target.parent)  # the rename itself


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def failure_of(act: Callable[[], object]) -> str | None:
    """Return the reason why ``act`` could not write; None if it could.

    torch turns the failed write of a file into a RuntimeError, and in its distributed format that
    of any rank into a CheckpointException, which is no Exception.
    """
    try:
        act()
    except (OSError, RuntimeError, CheckpointException) as error:
        return cause(error)
    return None


def write_error(target: Path, cause: str) -> CheckpointWriteError:
    """Remove what a failed write has left, and make the error to raise."""
    if is_rank_zero():
        remove(partial_path(target))
    room = f"{shutil.disk_usage(target.parent).free / 1e9:.1f} GB are free there"
    return CheckpointWriteError(
        f"the checkpoint {str(target)!r} could not be written ({cause}; {room}): nothing is left "
        "of it, and those before it are as they were; make room, and start the run again"
    )


def cause(error: BaseException) -> str:
    """Return the first cause of an error, in a line."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]  # of the first rank on which it failed
    # torch's error is the last of several; the disk's own says what is wrong.
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
