"""How every program starts and ends: the command line in; for a user's mistake, one line out."""

import errno
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from callbacks.step_guard import DivergedError
from experiments.experiment_config import ExperimentConfig
from experiments.signals import (
    CLOSED_PIPE_STATUS,
    INTERRUPTED_STATUS,
    TERMINATED_STATUS,
    Terminated,
    discard_stdout,
    say_stopped,
    sigterm_raises,
    stdout_is_closed,
    was_interrupted,
)
from vidreason.config import ConfigurationError, load_config
from vidreason.cores import use_threads
from vidreason.secrets import PrintableLogFilter, printable, without_secrets
from vidreason.store.shards import FeatureStoreError
from vidreason.training.atomic_checkpoint import CheckpointWriteError
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import VideoReadError

FAILURES_FILE = "failures.jsonl"
"""In the run folder: the videos that ``perceive`` and ``fit`` could not read."""

_MAX_MESSAGE_CHARS = 4000
_PRINTABLE_LOG = PrintableLogFilter()
"""For the handler that writes warnings to stderr where nobody has set up another one."""
_MACHINE_ERRORS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may use",
    errno.EPERM: "choose a folder that you may use",
    errno.EIO: "look after the disk",
    errno.ESTALE: "mount the folder anew",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs' files",
}
"""Errors of the machine, which are no defects of a program, each with what helps."""
_CHECKOUT = Path(__file__).resolve().parents[1]
_PACKAGES = ("vidreason", "data_modules", "callbacks", "experiments")


def run_program(
    run: Callable[[Any], object],
    *,
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
    schema: type[Any] = ExperimentConfig,
) -> int:
    """Load the configuration, call ``run``, and turn the errors that users can cause into a line.

    Args:
        run: The program; an integer that it returns is the exit status.
        program: Its name below ``experiments``.
        description: One line for ``--help``.
        argv: The command line without the program's name; None takes this process'.
        schema: The configuration dataclass that ``run`` takes.

    Returns: The exit status; see :func:`exit_status`.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return exit_status(
        program,
        lambda: run(
            load_config(
                schema,
                arguments,
                program=f"python -m experiments.{program}",
                description=description,
            )
        ),
    )


def exit_status(program: str, run: Callable[[], object]) -> int:
    """Call ``run`` on the cores that are free; say in a line what the user has to put right.

    It also says in a line that the program was told to stop.

    Returns: What ``run`` returns if it is an integer, else 0; 1 for videos that cannot be read,
        files that the machine does not let be written and a training that diverges; 2 for a wrong
        configuration or wrong data; 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the
        output any more.
    """
    use_threads()
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_PRINTABLE_LOG)
    try:
        with sigterm_raises():
            try:
                status = _status(program, run)
            finally:
                sys.stdout.flush()
    except Terminated:
        say_stopped(program, "ended by SIGTERM")
        return TERMINATED_STATUS
    except BrokenPipeError:
        if not stdout_is_closed():
            raise
        discard_stdout()
        return CLOSED_PIPE_STATUS
    except (KeyboardInterrupt, SystemExit) as error:
        if not was_interrupted(error) or getattr(error, "code", None) == INTERRUPTED_STATUS:
            raise
        say_stopped(program, "ended by Ctrl-C")
        return INTERRUPTED_STATUS
    return status


def _status(program: str, run: Callable[[], object]) -> int:
    try:
        status = run()
    except ConfigurationError as error:
        return _complain_of_all(program, error.problems)
    except UnreadableVideosError as error:
        print(f"{program}: {error}", file=sys.stderr)  # a summary of several lines
        return 1
    except (VideoReadError, FeatureStoreError, CheckpointWriteError, DivergedError) as error:
        return _complain(program, error, status=1)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        message = f"{error}: {_MACHINE_ERRORS[error.errno]}, and start again: what is whole is kept"
        return _complain(program, message, status=1)
    except ValueError as error:
        if not _raised_by_this_project(error.__traceback__):
            raise
        return _complain(program, error, status=2)
    return status if isinstance(status, int) else 0


def torch_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device is {name!r}, which PyTorch does not know; write cpu, cuda, cuda:1 or auto"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(
                f"device is {name!r}, but PyTorch finds {count} GPUs here; write cpu, or auto to "
                "take what there is"
            )
    return device


def _complain_of_all(program: str, problems: Sequence[str]) -> int:
    """Say all that is wrong with a configuration: one thing in a line, several in a list."""
    lines = [printable(without_secrets(problem), _MAX_MESSAGE_CHARS) for problem in problems]
    if len(lines) > 1:
        lines = [f"{len(lines)} things are wrong:", *(f"  {line}" for line in lines)]
    print(f"{program}: " + "\n".join(lines), file=sys.stderr)
    return 2


def _complain(program: str, error: Exception | str, *, status: int) -> int:
    # Data, files and servers have a hand in what is said.
    message = printable(without_secrets(str(error)), _MAX_MESSAGE_CHARS)
    print(f"{program}: {message}", file=sys.stderr)
    return status


def _raised_by_this_project(traceback: TracebackType | None) -> bool:
    """Tell whether our own code raised the error: its message is then for the user."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = Path(traceback.tb_frame.f_code.co_filename).resolve()
    return file.is_relative_to(_CHECKOUT) and file.relative_to(_CHECKOUT).parts[0] in _PACKAGES
