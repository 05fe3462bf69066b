"""One run folder has one writer: a lock that its process holds, and that ends with the process.

The lock is the system's (``flock``), not the file: a process that was killed leaves a file behind
and no lock. Host and process number in the file are only for messages. Over NFS the lock is the
server's, which may outlive a node that has crashed; so the holder also touches the file now and
then, and the lock of a silent holder on another host does not count. A file system without locks
refuses nobody: a holder that was heard of lately is warned about.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0  # between two signs of life in the lock file
SILENT_SECONDS = 180.0
"""A holder on another host that has not been heard of for this long is taken to be gone."""
LOCK_SUFFIX = ".lock"
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)

_held: set[int] = set()
"""Descriptors of the locks of this process."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock, as its file says."""

    program: str
    host: str
    pid: int
    since: str


@contextmanager
def sole_writer(folder: str | Path, program: str) -> Iterator[None]:
    """Hold the lock of ``program`` on ``folder``; rank 0 holds it for all.

    Args:
        folder: Made if it is not there.
        program: Such as ``fit``: each has a lock of its own, the file ``<program>.lock``.

    Raises:
        ValueError: Another process holds it, or nothing can be written to ``folder``.
    """
    if _rank() != 0:
        yield
        return
    path = Path(folder) / (program + LOCK_SUFFIX)
    with _opened(path) as file:
        _held.add(file.fileno())
        try:
            _take(file, path, program)
            try:
                with _heartbeat(file):
                    yield
            finally:
                file.truncate(0)  # without the file, two processes could have a lock each
        finally:
            _held.discard(file.fileno())


def is_held(folder: str | Path, program: str) -> bool:
    """Tell whether a process of ``program`` writes to ``folder``, without touching its lock.

    One that was killed leaves its name in the file: it is gone if this host has no such process, or
    if it has not been heard of for ``SILENT_SECONDS``.
    """
    path = Path(folder) / (program + LOCK_SUFFIX)
    try:
        status = path.stat()
        with path.open("rb") as file:
            holder = _holder(file)
    except OSError:
        return False
    if not status.st_size or time.time() - status.st_mtime >= SILENT_SECONDS:
        return False
    return holder is None or not _is_dead(holder)


def _rank() -> int:
    """Return 0 for the first of the processes that a launcher has started, else another number.

    Asked before they have met. The first has 0 in each of the variables that launchers set: a local
    rank is 0 on every node, and one may be inherited from whatever started the launcher.
    """
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    values = [os.environ.get(name, "") for name in names]
    return max((int(value) for value in values if value.isdecimal()), default=0)


def _opened(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not emptied: the file names whoever holds the lock, until this process has it.
        return path.open("a+b")
    except OSError as error:
        raise ValueError(
            f"nothing can be written to {str(path.parent)!r} ({error.strerror}): choose another "
            "run_dir"
        ) from error


def _take(file: BinaryIO, path: Path, program: str) -> None:
    # Who held it before, for messages: the lock itself is the system's.
    other = _holder(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            if other is not None and _is_fresh(path) and not _is_dead(other):
                logger.warning(
                    "%s may be writing to %s: %s; this file system has no locks (%s)",
                    *(_described(other), path.parent, "it was heard of lately", error.strerror),
                )
        # Held. On this host, or with a fresh heartbeat, the holder lives.
        elif error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        elif other is None or other.host == socket.gethostname() or _is_fresh(path):
            who = "another process" if other is None else _described(other)
            raise ValueError(
                f"{str(path.parent)!r} is being written to by {who}: wait for its end, stop it, or "
                "choose another run_dir"
            ) from error
        else:
            logger.warning(
                "taking %s over from %s, which has not been heard of for %.0f s",
                *(path.parent, _described(other), SILENT_SECONDS),
            )
    # Name this process in the file, for those who are refused.
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = Holder(program=program, host=socket.gethostname(), pid=os.getpid(), since=since)
    file.truncate(0)
    file.write(json.dumps(asdict(holder)).encode())
    file.flush()


def _holder(file: BinaryIO) -> Holder | None:
    """The holder that a lock's file names; None if it names none, as after a regular end."""
    file.seek(0)
    try:
        values = json.loads(file.read())
        return Holder(**{field.name: values[field.name] for field in fields(Holder)})
    except (ValueError, KeyError, TypeError):
        return None


def _described(holder: Holder) -> str:
    return f"{holder.program}, process {holder.pid} on {holder.host} since {holder.since}"


def _is_dead(holder: Holder) -> bool:
    """Tell whether the holder was on this host and is gone."""
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, as another user's process
        return False
    return False


def _is_fresh(path: Path) -> bool:
    """Tell whether the lock's file was touched lately, by the clock of its file system."""
    # A new file's time is that of the file system, whose clock may differ from this host's.
    now = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}")
    now.touch()
    try:
        return now.stat().st_mtime - path.stat().st_mtime < SILENT_SECONDS
    finally:
        now.unlink()


@contextmanager
def _heartbeat(file: BinaryIO) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a file server that is away for a while ends no run
                os.utime(file.fileno())

    thread = threading.Thread(target=beat, name="writer lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Before the file is closed: its descriptor could be another file's by the next beat.
        thread.join()


def _close_in_child() -> None:
    """A forked process must not keep the lock when this one has ended.

    What the file objects hold stays a valid descriptor, which nothing else can be given.
    """
    if not _held:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in _held:
        os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
