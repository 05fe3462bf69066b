"""Where indices of corpora and shards are kept, and how they know that they are out of date.

The folder is ``$VIDREASON_CACHE``, else ``$XDG_CACHE_HOME/vidreason``, else ``~/.cache/vidreason``:
a place of the machine, not of an experiment. It may be deleted at any time; what is in it is made
again. On a cluster it may be shared by all nodes or each node's own.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from vidreason.video.media import (
    file_system,
    file_version,
    is_remote,
    transport_errors_as_os_errors,
)
from vidreason.video.unrecorded import REFUSALS

_SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

Inputs = dict[str, str]
"""From what was looked at (``file:<path>``, ``folder:<path>``, ``shards:<folder>``) to its state
then."""

_recorded: ContextVar[Inputs | None] = ContextVar("_recorded", default=None)


def cache_folder() -> Path:
    """The folder of all indices; it need not exist yet."""
    own = os.environ.get("VIDREASON_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vidreason"


@contextmanager
def recorded_inputs() -> Iterator[Inputs]:
    """Collect what is looked at in the body, with its state before it was read."""
    inputs: Inputs = {}
    token = _recorded.set(inputs)
    try:
        yield inputs
    finally:
        _recorded.reset(token)


def note_file(path: Path) -> None:
    """Say that what is being read depends on a file, there or not, and on what lies beside it."""
    _note(f"file:{os.path.abspath(path)}")
    note_folder(path.parent)


def note_folder(path: Path) -> None:
    """Say that what is being read depends on which entries a folder has, there or not."""
    _note(f"folder:{os.path.abspath(path)}")


def note_shards(folder: str) -> None:
    """Say that what is being read depends on the tar shards below a folder or URL."""
    _note(f"shards:{folder if is_remote(folder) else os.path.abspath(folder)}")


def unchanged(inputs: Mapping[str, str]) -> bool:
    """Whether everything that was looked at is as it was then."""
    return all(_state(place) == state for place, state in inputs.items())


def list_shards(folder: str) -> dict[str, tuple[int, str]]:
    """The tar shards below ``folder``, in order of their names, by one listing.

    Compressed ones are among them, so that they are missed.

    Args:
        folder: A path or an fsspec URL; folders in it are listed too.

    Returns:
        From each shard's path or URL to its size in bytes and its version, as in
        :class:`vidreason.video.media.MediaIdentity`.

    Raises:
        OSError: The folder cannot be listed.
    """
    with transport_errors_as_os_errors():
        url = folder if is_remote(folder) else f"file://{os.path.abspath(folder)}"
        store, path = file_system(url)
        found = store.find(path, detail=True)
    return {
        _with_protocol(str(name), folder): (int(info["size"]), file_version(info))
        for name, info in sorted(found.items())
        if name.lower().endswith(_SHARD_SUFFIXES)
    }


def _with_protocol(name: str, folder: str) -> str:
    """The path or URL of what a store calls ``name``, with the protocol that ``folder`` has."""
    protocol, separator, _ = folder.partition("://") if is_remote(folder) else ("", "", "")
    if not separator or "://" in name:  # http names files by their URLs
        return name
    return f"{protocol}://{name if protocol == 'file' else name.lstrip('/')}"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process of this file system into the body at a time; others wait.

    What is built in the body must be correct without it, too: where a file system has no locks,
    several processes may build the same thing, and the last rename wins. In another user's cache
    the body may find that there is nothing to build.

    Raises:
        ValueError: The body has to write, and may not; the message says how to have another cache.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        lock = None
    try:
        if lock is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise ValueError(
            f"the index in {str(folder)!r} cannot be written ({error.strerror}): set "
            "VIDREASON_CACHE to a folder with room that this user may write to"
        ) from error
    finally:
        if lock is not None:
            lock.close()


def digest(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """A short name, 24 hex digits, for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _note(place: str) -> None:
    inputs = _recorded.get()
    if inputs is not None and place not in inputs:
        inputs[place] = _state(place)


def _state(place: str) -> str:
    kind, _, path = place.partition(":")
    try:
        if kind == "shards":
            return digest(list_shards(path))
        status = os.stat(path)
    except OSError:
        return "absent"
    return f"{status.st_mtime_ns}" if kind == "folder" else f"{status.st_size} {status.st_mtime_ns}"
