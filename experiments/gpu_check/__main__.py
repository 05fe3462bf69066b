"""Measure and prove on a GPU, in minutes, what needs one: ``python -m experiments.gpu_check``.

Each check runs in a process of its own with a time limit, the cheapest and most informative first,
and what it measures is written at once. With ``--rehearse`` the same checks run on the CPU at small
size. Needed are a checkout and the dependencies; the project itself need not be installed.
"""

import argparse
import faulthandler
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.gpu_check.checks import CHECKS, Check
from experiments.gpu_check.results import (
    RESULTS_FILE,
    Failed,
    Recorder,
    Skipped,
    forget,
    read_results,
    summary_text,
)
from experiments.gpu_check.runner import Run, Step, run_steps
from vidreason.command_line import CommandLineParser

BUDGET_SECONDS = 460
"""Wall time of all checks, unless ``--budget-seconds`` says another one: with what comes before and
after them, eight minutes."""
OUTPUT_DIR = "runs/gpu_check"

_PROGRAM = "experiments.gpu_check"
_NO_GPU = 2
"""Exit status where there is no GPU, as for other mistakes of a user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, and run the checks, or one of them in this process.

    Returns: 0 if no check failed or was stopped, 1 if one was, 2 if there is no GPU.
    """
    arguments = _parser().parse_args(argv)
    if arguments.run_here:
        # At its limit it is sent SIGTERM, and says where it stands before it ends.
        faulthandler.register(signal.SIGTERM, chain=True)
        (check,) = (check for check in CHECKS if check.name == arguments.run_here)
        output = Path(arguments.output_dir).resolve()
        return run_here(check, output, rehearsal=arguments.rehearse)
    chosen = [check for check in CHECKS if check.name in (arguments.only or [check.name])]
    if any(check.needs_gpu for check in chosen) and not (arguments.rehearse or _gpu_here()):
        print(
            "gpu_check: there is no GPU: PyTorch finds no CUDA device here (nvidia-smi, "
            "CUDA_VISIBLE_DEVICES). Nothing was run. --rehearse runs the same checks on the CPU, "
            "at small size",
            file=sys.stderr,
        )
        return _NO_GPU
    from experiments.program import exit_status  # takes its time, which --help should not

    return exit_status("gpu_check", lambda: run_checks(chosen, arguments))


def run_checks(checks: Sequence[Check], arguments: argparse.Namespace) -> int:
    """Run ``checks``, each in a process of its own, and print the summary.

    Returns: 0 if no check failed or was stopped, else 1.
    """
    output = Path(arguments.output_dir).resolve()
    output.mkdir(parents=True, exist_ok=True)
    # Results are appended: those of an earlier run would stand beside the new ones.
    if arguments.only:
        forget(output, arguments.only)
    else:
        for path in (*output.glob("log*.txt"), output / RESULTS_FILE):
            path.unlink(missing_ok=True)
    heading = "Checks on the CPU, a rehearsal" if arguments.rehearse else "Checks on a GPU"
    run = Run(folder=output, budget_seconds=arguments.budget_seconds, heading=heading)
    outcomes = run_steps([_step(check, arguments) for check in checks], run)
    print(f"\n{summary_text(read_results(output))}\n\n{output}")
    return int(any(outcome.state in ("failed", "timed out") for outcome in outcomes))


def run_here(check: Check, output: Path, *, rehearsal: bool) -> int:
    """Run one check in this process; return its exit status."""
    from experiments.gpu_check.setting import Setting  # what all checks need, and the others not

    output.mkdir(parents=True, exist_ok=True)
    record = Recorder(output, check.name)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        setting = Setting(rehearsal=rehearsal, record=record, output=output, scratch=Path(scratch))
        try:
            check.run(setting)
        except Skipped as reason:
            record.skip(str(reason))
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


def _step(check: Check, arguments: argparse.Namespace) -> Step:
    # This program again, in a process that can be stopped, and whose memory is its own.
    command = [sys.executable, "-m", _PROGRAM, "--run-here", check.name]
    command += ["--output-dir", str(Path(arguments.output_dir).resolve())]
    return Step(
        name=check.name,
        command=(*command, *(["--rehearse"] if arguments.rehearse else [])),
        # A rehearsal is on a machine of any speed, which other programs may share.
        limit_seconds=arguments.budget_seconds if arguments.rehearse else check.limit_seconds,
        missing=check.missing(),
        background=check.background,
        waits_for=check.waits_for,
    )


def _gpu_here() -> bool:
    import torch  # takes its time, which --help should not

    return torch.cuda.is_available()


def _parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(prog=f"python -m {_PROGRAM}", description=__doc__)
    names = [check.name for check in CHECKS]
    parser.add_argument(
        "--rehearse", action="store_true", help="the same checks on the CPU, at small size"
    )
    parser.add_argument("--output-dir", default=OUTPUT_DIR, help="default: %(default)s")
    parser.add_argument(
        "--budget-seconds",
        type=float,
        default=BUDGET_SECONDS,
        help="for all checks; what is left over is skipped (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        metavar="CHECK",
        help=f"run these; the results of the others stay. One of: {', '.join(names)}",
    )
    parser.add_argument(
        "--run-here", choices=names, metavar="CHECK", help="run one check in this process"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
