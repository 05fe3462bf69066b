"""A run that is told to stop: by the first signal in order, by the second Ctrl-C at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.signals import first_signal_tells


class Stop:
    """Flag that tells a run to stop, with the signal that has set it."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal; 0 for none."""

    def set(self, number: int) -> None:
        """Tell the run to stop, by the number of a signal."""
        self.signal = number

    def is_set(self) -> bool:
        """Tell whether the run is to stop."""
        return self.signal != 0

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the run is to stop.

        Raises:
            SystemExit: It is to stop; the status is 128 and the signal's number.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.is_set():
            # In pieces: after a signal's handler Python goes on with a sleep, to its end.
            time.sleep(min(left, 0.5))
        self.exit_if_set()

    def exit_if_set(self) -> None:
        """End the program where it is to stop.

        Raises:
            SystemExit: See :meth:`sleep`.
        """
        if self.is_set():
            name = signal.Signals(self.signal).name
            print(f"stopped by {name}: what was answered is kept; the same command goes on")
            raise SystemExit(128 + self.signal)


@contextmanager
def stop_at_signals(text: str) -> Iterator[Stop]:
    """Let SIGTERM and the first Ctrl-C set the flag, and the second Ctrl-C interrupt.

    Args:
        text: Said when the first one comes.
    """
    stop = Stop()
    with first_signal_tells(stop.set, text):
        yield stop
