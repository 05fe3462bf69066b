"""Files that are whole or absent, whoever is killed: written aside, then renamed into place."""

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".tmp"
"""How the names of files end that are being written, or that a killed process left so."""

_process = (0, "")


def process_name() -> str:
    """A file name stem that no other process on any node uses: host, process id, random digits.

    A forked child gets one of its own.
    """
    global _process
    # A fork has this module's state, too.
    if _process[0] != os.getpid():
        host = re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:32]
        _process = (os.getpid(), f"{host}-{os.getpid()}-{uuid.uuid4().hex[:16]}")
    return _process[1]


def unique_path(folder: Path, suffix: str) -> Path:
    """Return a path in ``folder`` that neither another process nor an earlier call uses."""
    return folder / f"{process_name()}-{time.time_ns()}{suffix}"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, whole or not at all; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json_atomically(path: Path, value: object) -> None:
    """Write a JSON value and a line end, as :func:`write_atomically` does."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that appears as ``path`` when the block ends, and not if it raises.

    No lock is taken and nothing is appended to, so this holds on NFS too, where a rename within a
    folder is atomic. The content is on the disk before the name is: without that, a crash of the
    machine could leave a file without its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{process_name()}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # it has its name by now, if nothing was raised
    # The folder as well: its list of names is what the rename has changed.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
