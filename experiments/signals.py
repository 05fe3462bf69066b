"""The end of programs by Ctrl-C and by SIGTERM."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.first_seconds import end_at_once

INTERRUPTED_STATUS = 128 + signal.SIGINT
"""130, as a shell has it: after Ctrl-C."""
TERMINATED_STATUS = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """Raised in the main thread by a SIGTERM, so that what was begun is put in order."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let a SIGTERM raise :class:`Terminated`, unless the program has its own answer to it.

    By default it would end the process as it is, and leave its worker processes running. The ranks
    of a launcher keep the default: one that waits for others in a library does not get to Python.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) == end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL or _is_one_of_several():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked: it ends as it would have
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Terminated(TERMINATED_STATUS)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def first_signal_tells(tell: Callable[[int], None], text: str) -> Iterator[None]:
    """Let SIGTERM and the first Ctrl-C be told of, and the second Ctrl-C interrupt.

    Args:
        tell: Called with the number of each signal but that; it sets a flag.
        text: Said when the first one comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    is_told = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_told
        if is_told and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not is_told:
            # Not print(): the signal may have come in the middle of one.
            os.write(2, f"{signal.Signals(number).name}: {text}\n".encode())
        is_told = True
        tell(number)

    former = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def was_interrupted(error: BaseException | None) -> bool:
    """Tell whether an exception came of a Ctrl-C; Lightning makes a ``SystemExit`` of one."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def say_stopped(program: str, how: str) -> None:
    """Say in one line, on rank 0, that the program ends because it was told to."""
    ranks = sys.modules.get("lightning.fabric.utilities.rank_zero")  # without it, one process
    if ranks is not None and ranks.rank_zero_only.rank != 0:
        return
    text = f"{program}: {how}; the same command goes on with what is missing"
    print(f"\n{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _is_one_of_several() -> bool:
    numbers = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return any(number not in ("", "1") for number in numbers) or "LOCAL_RANK" in os.environ
