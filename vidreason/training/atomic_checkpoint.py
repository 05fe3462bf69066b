"""Writing under another name, flushing and renaming: a checkpoint is whole or absent.

A process killed at any instant leaves nothing torn under the name of a checkpoint.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from vidreason.training.sharded_values import is_rank_zero

PARTIAL = ".partial"
"""How the names of checkpoints end that are being written, or that a killed process left so."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the former ones are as they were."""


def partial_path(target: Path) -> Path:
    """The path under which a checkpoint is written before it gets its name."""
    return target.with_name(target.name + PARTIAL)


def prepare(target: Path) -> None:
    """Make the folder of a checkpoint, without what killed processes have left in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f"*{PARTIAL}"):  # of a process that was killed in a save
        remove(leftover)


def _flush(place: Path) -> None:
    """Put a file, or a folder's files, on the disk before they get their name."""
    files = [place] if place.is_file() else [*place.rglob("*"), place]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(target: Path) -> None:
    """Flush what was written under the partial name to the disk, and rename it."""
    partial = partial_path(target)
    _flush(partial)
    former = target.with_name(f"{target.name}.former{PARTIAL}")
    if target.is_dir() or (partial.is_dir() and target.exists()):
        os.replace(target, former)  # a folder cannot be replaced in one step
    os.replace(partial, target)
    remove(former)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(place: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def failure_of(act: Callable[[], object]) -> str | None:
    """The reason why ``act`` could not write; None if it could.

    torch turns the failed write of a file into a RuntimeError, and its distributed format that of
    any rank into an exception of its own, which is no Exception.
    """
    try:
        act()
    except (OSError, RuntimeError, CheckpointException) as error:
        return cause(error)
    return None


def write_error(target: Path, cause: str) -> CheckpointWriteError:
    """The error to raise after a failed write, of which it removes what is left."""
    if is_rank_zero():
        remove(partial_path(target))
    room = f"{shutil.disk_usage(target.parent).free / 1e9:.1f} GB are free there"
    return CheckpointWriteError(
        f"the checkpoint {str(target)!r} could not be written ({cause}; {room}): nothing is left "
        "of it, and those before it are as they were; make room, and start the run again"
    )


def cause(error: BaseException) -> str:
    """The first cause of an error, in a line."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]  # of the first rank on which it failed
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
