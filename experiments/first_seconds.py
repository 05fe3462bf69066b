"""Ctrl-C while a program is still importing its libraries, which takes some seconds."""

import os
import signal
import sys
from types import FrameType


def end_quietly_while_importing() -> None:
    """Let Ctrl-C end this process without a traceback, until the program handles it itself."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """Say that nothing was begun, and end with the status of a shell after this signal."""
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else sys.argv[0]
    program = name.removesuffix(".__main__").rpartition(".")[2]
    # Neither print nor an exception: the interpreter may be in the midst of an import.
    os.write(2, f"{program}: ended by Ctrl-C before it began\n".encode())
    os._exit(128 + number)
