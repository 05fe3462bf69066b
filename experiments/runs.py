"""List the runs below a folder: ``python -m experiments.runs [FOLDER]``, by default ``runs``.

For each run folder of ``fit``: its stage; whether it is running, finished, stopped, killed or
failed, and at which of its steps; its last losses and the accuracies of an evaluation, each with
the step that it belongs to. Accuracies have their 95% interval over videos and their number of
questions. Nothing is loaded but small files.
"""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.program import exit_status
from experiments.writer_lock import is_held
from vidreason.command_line import CommandLineParser
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.evaluation.tables import Table, value_text

# As callbacks.run_record calls them, which imports torch.
_RECORD, _METRICS, _CONFIG = "run.json", "metrics.csv", "config.yaml"
_HEADER = ("run", "stage", "state", "step", "loss", "val/loss", "starts", "accuracy")
_ABSENT = "-"
_FULL_MODEL = "full model"
_SIGNALS = ("Stopped", "KeyboardInterrupt", "Terminated", "SystemExit")
"""Exceptions by which a run ends that was told to."""


def list_runs(folder: Path) -> None:
    """Print a table of the runs below ``folder``, the one that was started last at its end.

    Raises:
        ValueError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}: name the one that holds the runs")
    rows = sorted(_rows(folder))
    if not rows:
        raise ValueError(f"{str(folder)!r} holds no run of fit (no {_RECORD} below it)")
    table = Table(f"{len(rows)} runs below {folder}", _HEADER, tuple(row for _, row in rows))
    print(table.to_text())


def _rows(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield when a run was last started, and its row."""
    for record in folder.rglob(_RECORD):
        try:
            starts = json.loads(record.read_text())["starts"]
            last = starts[-1]
            last_time = str(last["time"])
        except (ValueError, LookupError, TypeError, OSError):
            continue  # another program's file of this name
        run = record.parent
        metrics = _last_metrics(run / _METRICS)
        yield (
            last_time,
            (
                str(run.relative_to(folder)),
                _stage(run),
                _state(run, last),
                _step(last, metrics),
                _loss(metrics, "train/loss"),
                _loss(metrics, "val/loss"),
                str(len(starts)),
                _accuracies(run),
            ),
        )


def _stage(run: Path) -> str:
    try:
        lines = (run / _CONFIG).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return _ABSENT
    stages = (line.partition(":")[2].strip() for line in lines if line.startswith("stage:"))
    return next(stages, _ABSENT)


def _state(run: Path, start: Mapping[str, Any]) -> str:
    """Return what became of the last start of a run."""
    if is_held(run, "fit"):
        return "running"
    end = start.get("end") or {}
    if "cause" not in end:
        return "killed"
    # "finished", "stopped ..." with a reason; or an error or exit status with its class before it.
    cause = str(end["cause"]).partition(":")[0]
    if cause in ("finished", "stopped early"):
        return cause
    return "stopped" if cause in _SIGNALS or cause.startswith("stopped") else f"failed: {cause}"


def _step(start: Mapping[str, Any], metrics: Mapping[str, tuple[int, str]]) -> str:
    """Return how many steps are done, of how many; those of a run without an end as logged."""
    total = start.get("total_steps")
    logged = max((step for step, _ in metrics.values()), default=_ABSENT)
    step = (start.get("end") or {}).get("step", logged)
    return str(step) if total is None else f"{step} of {total}"


def _last_metrics(path: Path) -> dict[str, tuple[int, str]]:
    """Return the last value of each metric, and after how many steps it was logged."""
    try:
        complete = path.read_text().rpartition("\n")[0]  # a kill may have torn the last row
        values: dict[str, tuple[int, str]] = {}
        for row in csv.DictReader(io.StringIO(complete)):
            steps = int(row["step"]) + 1  # the table counts them from 0
            values |= {name: (steps, value) for name, value in row.items() if value and name}
    except (OSError, ValueError, LookupError, TypeError):
        return {}  # not one step has been logged, or it is no such table
    return values


def _loss(metrics: Mapping[str, tuple[int, str]], name: str) -> str:
    if name not in metrics:
        return _ABSENT
    step, value = metrics[name]
    try:
        return f"{float(value):.3f} at step {step}"
    except ValueError:
        return _ABSENT


def _accuracies(run: Path) -> str:
    """Return the accuracy on each corpus, as far as there is an evaluation, and of what it is.

    An evaluation stays where it was when the run goes on, and may be of another model.
    """
    try:
        metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
        runs = metrics["runs"]
        name = _FULL_MODEL if _FULL_MODEL in runs else next(iter(runs))
        shown = [
            f"{cell['corpus']} {value_text(_interval(cell))} n={cell['num_questions']}"
            for cell in runs[name]
            if cell["group"] == "all" and cell.get("accuracy") is not None
        ]
        if name != _FULL_MODEL:
            source = f"of {name}"
        elif "step" in metrics:
            source = f"at step {metrics['step']}"
        else:
            source = f"of {metrics['model']}"
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return _ABSENT
    return f"{', '.join(shown)} {source}" if shown else _ABSENT


def _interval(cell: dict[str, Any]) -> Interval:
    # JSON has no NaN: bounds that there are none of are null.
    low, high = (math.nan if cell[name] is None else cell[name] for name in ("low", "high"))
    return Interval(cell["accuracy"], low, high)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status is 2 where there is nothing to list."""
    parser = CommandLineParser(
        prog="python -m experiments.runs", description="List runs with their states and results."
    )
    parser.add_argument("folder", nargs="?", default="runs", help="(default: %(default)s)")
    folder = Path(parser.parse_args(argv).folder)
    return exit_status("runs", lambda: list_runs(folder))


if __name__ == "__main__":
    sys.exit(main())
