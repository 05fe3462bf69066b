"""The end of a program whose output nobody reads any more, as after ``| head``."""

import os
import select
import signal
import sys

CLOSED_PIPE_STATUS = 128 + signal.SIGPIPE
"""141, as a shell has it."""


def stdout_is_closed() -> bool:
    """Tell whether stdout is a pipe that nobody reads any more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False  # it is no file, as under pytest
    poll = select.poll()
    # Asked for nothing, it reports errors alone.
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def discard_stdout() -> None:
    """Let what is still to be written go nowhere, so that Python's own end does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
