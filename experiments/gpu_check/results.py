"""Numbers and outcomes of the checks: one JSON line each, appended as soon as it is known.

A run that is cut off has lost what was not measured yet, and nothing else.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidreason.atomic_file import write_atomically
from vidreason.markdown import escaped, table

RESULTS_FILE = "results.jsonl"
SUMMARY_FILE = "summary.md"
LOG_FILE = "log.txt"

State = Literal["passed", "failed", "timed out", "skipped"]
Value = float | int | str

_NUM_SHOWN = 3


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised by a check that cannot run here; the text says why."""


class Failed(Exception):  # noqa: N818
    """Raised by a check that has run, and found something that is not as it should be."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number, or a word such as a version."""

    check: str
    name: str
    value: Value
    unit: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.name} {value} {self.unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a check."""

    check: str
    state: State
    seconds: float = 0.0
    """Wall time of its process."""
    note: str = ""
    """Why it did not pass."""


@dataclass(kw_only=True)
class Results:
    """The content of ``results.jsonl``."""

    measurements: list[Measurement] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Reasons that checks themselves gave, by check."""


class Recorder:
    """Appends what a check measures to ``results.jsonl`` in ``folder``."""

    def __init__(self, folder: Path, check: str) -> None:
        self.path = folder / RESULTS_FILE
        self.check = check

    def __call__(self, name: str, value: Value, unit: str = "") -> None:
        """Record one measurement, and print it."""
        measured = Measurement(check=self.check, name=name, value=value, unit=unit)
        append(self.path, measurement=asdict(measured))
        print(measured, flush=True)

    def skip(self, reason: str) -> None:
        """Record that the check cannot run here."""
        append(self.path, skipped={"check": self.check, "reason": reason})


def append(path: Path, **entry: dict[str, Any]) -> None:
    """Add a line of one entry, named by its kind, to ``results.jsonl``."""
    # One short write at the end: checks in the background append to the same file.
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def forget(folder: Path, checks: Sequence[str]) -> None:
    """Take all lines of ``checks``, which are run anew, out of ``results.jsonl``."""
    path = folder / RESULTS_FILE
    if path.is_file():
        lines = [line for line in path.read_text().split("\n")[:-1] if line]
        # At once: a process that is killed here loses nothing of the other checks.
        write_atomically(
            path,
            "".join(
                f"{line}\n"
                for line in lines
                if next(iter(json.loads(line).values()))["check"] not in checks
            ),
        )


def read_results(folder: Path) -> Results:
    """Read ``results.jsonl``; an unfinished last line, of a process that was killed, is left out.

    Args:
        folder: May have no such file, which is no results.
    """
    results = Results()
    path = folder / RESULTS_FILE
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    for line in filter(None, lines):
        ((kind, entry),) = json.loads(line).items()
        if kind == "measurement":
            results.measurements.append(Measurement(**entry))
        elif kind == "outcome":
            results.outcomes.append(Outcome(**entry))
        else:
            # Written by the check itself, which ends with status 0: the runner looks for it here.
            results.skipped[entry["check"]] = entry["reason"]
    return results


def outcome_rows(results: Results) -> list[list[str]]:
    """Check, outcome, seconds, and the first numbers or why it did not pass; a header first."""
    rows = [["check", "outcome", "seconds", "numbers"]]
    for outcome in results.outcomes:
        measured = [one for one in results.measurements if one.check == outcome.check]
        # A check records first what is to be seen here.
        numbers = "; ".join(map(str, measured[:_NUM_SHOWN]))
        shown = " | ".join(filter(None, (outcome.note, numbers)))
        rows.append([outcome.check, outcome.state, f"{outcome.seconds:.0f}", shown])
    return rows


def summary_text(results: Results) -> str:
    """The outcomes in aligned columns, for a terminal."""
    rows = outcome_rows(results)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        # The last column is as long as it is.
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def write_summary(folder: Path, heading: str) -> None:
    """Write ``summary.md``: the table of outcomes, then all that each check measured."""
    results = read_results(folder)
    header, *rows = outcome_rows(results)
    parts = [f"# {escaped(heading)}", table(header, _escaped(rows), num_left=None)]
    for outcome in results.outcomes:
        measured = [one for one in results.measurements if one.check == outcome.check]
        if measured:
            lines = [[one.name, _shown(one.value), one.unit] for one in measured]
            parts += [
                f"## {escaped(outcome.check)}",
                table(["measured", "value", "unit"], _escaped(lines), num_left=None),
            ]
    write_atomically(folder / SUMMARY_FILE, "\n\n".join(parts) + "\n")


def _shown(value: Value) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escaped(cell) for cell in row] for row in rows]
