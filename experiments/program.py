"""Start and end of every program: a command line in; for a user's mistake, one line out.

Nothing heavy is imported here nor by the modules that programs start from: ``--help`` and mistakes
in a configuration are answered at once. A program imports what it computes with when it runs.
"""

import errno
import importlib
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from experiments.experiment_config import READERS_OF_SECTIONS, ExperimentConfig
from experiments.signals import (
    INTERRUPTED_STATUS,
    TERMINATED_STATUS,
    Terminated,
    say_stopped,
    sigterm_raises,
    was_interrupted,
)
from vidreason.closed_pipe import CLOSED_PIPE_STATUS, discard_stdout, stdout_is_closed
from vidreason.config import ConfigurationError, config_parser, merge_config
from vidreason.cores import use_threads
from vidreason.errors import ReportedError
from vidreason.secrets import PrintableLogFilter, printable, without_secrets

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

Run = Callable[[Any], object]


def lazy(target: str) -> Run:
    """Return the function ``target``, as in ``package.module:name``, imported when it is called."""
    module, _, name = target.partition(":")

    def run(config: object) -> object:
        return getattr(importlib.import_module(module), name)(config)

    return run


def run_program(
    run: Run | Mapping[str, Run],
    *,
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
    schema: type[Any] = ExperimentConfig,
) -> int:
    """Load the configuration, call ``run``, and turn the errors that users can cause into a line.

    Args:
        run: The program; an integer that it returns is the exit status. Several by name: the first
            argument of the command line names one.
        program: Its name below ``experiments``.
        description: One line for ``--help``.
        argv: The command line without the program's name; None takes this process'.
        schema: The configuration dataclass that ``run`` takes.

    Returns: The exit status; see :func:`exit_status`.

    Raises:
        SystemExit: ``--help`` was asked for, or the command line is not of this form.
    """
    # The command line first: --help and usage errors end here.
    rest = list(sys.argv[1:] if argv is None else argv)
    name = f"python -m experiments.{program}"
    if isinstance(run, Mapping):
        command = rest.pop(0) if rest and rest[0] in run else ""
        name += f" {command or '{' + ','.join(run) + '}'}"
    parser = config_parser(name, description, schema)
    arguments = parser.parse_intermixed_args(rest)
    if isinstance(run, Mapping):
        if not command:
            parser.error(f"the first argument must be one of {', '.join(run)}")
        run = run[command]

    def load() -> object:
        config = merge_config(schema, arguments.config, arguments.overrides)
        _warn_of_ignored(program, arguments.overrides)
        return config

    return exit_status(program, run, load)


def _warn_of_ignored(program: str, overrides: Sequence[str]) -> None:
    """Say which overrides have no effect here; YAML files are often shared by programs."""
    # Only programs that the table knows have sections which they do not read.
    listed = {name for names in READERS_OF_SECTIONS.values() for name in names}
    if program not in listed:
        return
    given = dict.fromkeys(re.split(r"[.=]", override, maxsplit=1)[0] for override in overrides)
    for section in given:
        readers = READERS_OF_SECTIONS.get(section, (program,))
        if program not in readers:
            names = ", ".join(readers)
            print(f"{program}: {section} has no effect here; it is for {names}", file=sys.stderr)


def exit_status(
    program: str, run: Callable[..., object], load: Callable[[], object] | None = None
) -> int:
    """Call ``run`` on the cores that are free; say in a line what the user has to put right.

    It also says in a line that the program was told to stop.

    Args:
        program: Its name, for messages.
        run: The program; it takes what ``load`` returns.
        load: Reads the configuration, before anything heavy is imported.

    Returns: What ``run`` returns if it is an integer, else 0; 1 for videos that cannot be read,
        files that the machine does not let be written and a training that diverges; 2 for a wrong
        configuration or wrong data; 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the
        output any more.
    """
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_PRINTABLE_LOG)
    try:
        with sigterm_raises():
            try:
                status = _status(program, run, load)
            finally:
                # A closed pipe is answered here; at the interpreter's end it would be a traceback.
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
        # Who ends with this status has said so already, as a training does that has saved.
        if not was_interrupted(error) or getattr(error, "code", None) == INTERRUPTED_STATUS:
            raise
        say_stopped(program, "ended by Ctrl-C")
        return INTERRUPTED_STATUS
    return status


def _status(
    program: str, run: Callable[..., object], load: Callable[[], object] | None = None
) -> int:
    try:
        # A mistake in the configuration is said before torch is imported for its threads.
        loaded = [] if load is None else [load()]
        use_threads()
        status = run(*loaded)
    except ConfigurationError as error:
        return _complain(program, error.problems, status=2)
    except ReportedError as error:
        return _complain(program, error.lines(), status=1)
    # Anything else is a defect of the program, and keeps its traceback.
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        message = f"{error}: {_MACHINE_ERRORS[error.errno]}, and start again: what is whole is kept"
        return _complain(program, [message], status=1)
    except ValueError as error:
        if not _raised_by_this_project(error.__traceback__):
            raise
        return _complain(program, [str(error)], status=2)
    return status if isinstance(status, int) else 0


def _complain(program: str, lines: Sequence[str], *, status: int) -> int:
    """Print what is wrong: one thing in a line, several problems of a configuration in a list."""
    # Data, files and servers have a hand in what is said.
    shown = [printable(without_secrets(line), _MAX_MESSAGE_CHARS) for line in lines]
    if status == 2 and len(shown) > 1:
        shown.insert(0, f"{len(shown)} things are wrong:")
    print(f"{program}: " + "\n  ".join(shown), file=sys.stderr)
    return status


def _raised_by_this_project(traceback: TracebackType | None) -> bool:
    """Tell whether our own code raised the error: its message is then for the user."""
    # The innermost frame is the one that raised.
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = Path(traceback.tb_frame.f_code.co_filename).resolve()
    return file.is_relative_to(_CHECKOUT) and file.relative_to(_CHECKOUT).parts[0] in _PACKAGES
