"""The folder of the indices of corpora and shards.

The folder is ``$VIDREASON_CACHE``, else ``$XDG_CACHE_HOME/vidreason``, else ``~/.cache/vidreason``:
it belongs to the machine, not to an experiment. It may be deleted at any time; what is in it is
made again. On a cluster it may be shared by all nodes or each node's own.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vidreason.video.unrecorded import REFUSALS


def cache_folder() -> Path:
    """The folder of all indices; it need not exist yet."""
    folder = os.environ.get("VIDREASON_CACHE")
    if folder:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vidreason"


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
        # Another user's cache, or a full disk: what is in it can be read without a lock.
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
