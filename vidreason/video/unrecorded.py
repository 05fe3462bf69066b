"""Records that only spare work later: where they cannot be written, that is said once."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""A folder of another user, a file system mounted read-only, a full disk."""

_told: set[str] = set()


@contextmanager
def recorded_if_possible(folder: Path, loss: str) -> Iterator[None]:
    """Let the body write a record below ``folder``; go on without it where that is refused.

    Args:
        folder: Named in the warning, which comes once a process.
        loss: The consequence, as in "content hashes are not recorded, so each process reads ...".
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        tell_once(folder, f"{error.strerror}: {loss}")


def tell_once(folder: Path, message: str) -> None:
    """Log a warning about ``folder``; only the first one of a process is shown."""
    if str(folder) not in _told:
        _told.add(str(folder))
        logger.warning("%s: %s", folder, message)
