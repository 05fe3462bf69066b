"""A run that is told to stop: by the first signal in order, by the second Ctrl-C at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Flag that tells a run to stop, with the signal that has set it."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal; 0 for none."""

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
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def set_flag(number: int, frame: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not stop.signal:
            # Not print(): the signal may have come in the middle of one.
            os.write(2, f"{signal.Signals(number).name}: {text}\n".encode())
        stop.signal = number

    former = {n: signal.signal(n, set_flag) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
