"""List the runs below a folder: ``python -m experiments.runs [FOLDER]``, by default ``runs``.

For each run folder of ``fit``: its stage, whether it runs, is finished, stopped or was killed, how
far it is, its last losses, and the accuracies of an evaluation, each with its 95% interval over
videos and its number of questions. Nothing is loaded but small files.
"""

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.program import exit_status
from experiments.writer_lock import LOCK_SUFFIX, SILENT_SECONDS
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.evaluation.tables import Table, value_text

# As callbacks.run_record calls them, which imports torch.
_RECORD, _METRICS, _CONFIG = "run.json", "metrics.csv", "config.yaml"
_HEADER = ("run", "stage", "state", "step", "loss", "val/loss", "starts", "accuracy")
_ABSENT = "-"


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
        end = last.get("end") or {}
        yield (
            last_time,
            (
                str(run.relative_to(folder)),
                _stage(run),
                _state(run, end),
                str(end.get("step", metrics.get("step", _ABSENT))),
                _number(metrics.get("train/loss")),
                _number(metrics.get("val/loss")),
                str(len(starts)),
                _accuracies(run),
            ),
        )


def _stage(run: Path) -> str:
    try:
        lines = (run / _CONFIG).read_text().splitlines()
    except OSError:
        return _ABSENT
    stages = (line.partition(":")[2].strip() for line in lines if line.startswith("stage:"))
    return next(stages, _ABSENT)


def _state(run: Path, end: dict[str, Any]) -> str:
    lock = run / f"fit{LOCK_SUFFIX}"
    try:
        status = lock.stat()
    except OSError:
        status = None
    if status is not None and status.st_size and time.time() - status.st_mtime < SILENT_SECONDS:
        return "running"
    # "finished", or an error or exit status with its class before it.
    return str(end["cause"]).partition(":")[0].lower() if "cause" in end else "killed"


def _last_metrics(path: Path) -> dict[str, str]:
    """The last value of each metric."""
    values: dict[str, str] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values |= {name: value for name, value in row.items() if value and name}
    except OSError:
        pass  # not one step has been logged
    return values


def _accuracies(run: Path) -> str:
    """Return the accuracy of the full model on each corpus, as far as there is an evaluation."""
    try:
        runs = json.loads((run / "evaluation" / "metrics.json").read_text())["runs"]
        cells = next(iter(runs.values()))
        shown = [
            f"{cell['corpus']} {value_text(_interval(cell))} n={cell['num_questions']}"
            for cell in cells
            if cell["group"] == "all" and cell.get("accuracy") is not None
        ]
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return _ABSENT
    return ", ".join(shown) or _ABSENT


def _interval(cell: dict[str, Any]) -> Interval:
    # JSON has no NaN: bounds that there are none of are null.
    low, high = (math.nan if cell[name] is None else cell[name] for name in ("low", "high"))
    return Interval(cell["accuracy"], low, high)


def _number(text: str | None) -> str:
    return _ABSENT if text is None else f"{float(text):.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status is 2 where there is nothing to list."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.runs", description="List runs with their states and results."
    )
    parser.add_argument("folder", nargs="?", default="runs", help="(default: %(default)s)")
    folder = Path(parser.parse_args(argv).folder)
    return exit_status("runs", lambda: list_runs(folder))


if __name__ == "__main__":
    sys.exit(main())
