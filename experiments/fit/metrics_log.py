"""A run's logged metrics as a table, ``metrics.csv``: exact, and complete after a kill.

Lightning's own CSV logger begins an empty file when a run is resumed.
"""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from vidreason.atomic_file import write_atomically

METRICS_FILE = "metrics.csv"
_STEP = "step"
_EPOCH = "epoch"  # Lightning adds it to all that is logged


class MetricsLog(Logger):
    """Append a row to ``<run_dir>/metrics.csv`` each time that something is logged.

    The columns are ``step`` and the metrics; what was not logged with the others is left empty, so
    a step may have several rows. Values are written so that they are read back bit for bit.

    A run that was killed and resumed does the steps since its checkpoint again: their old rows go
    when the first of them is logged anew, so that nothing is in the table twice.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__()
        self.path = Path(run_dir) / METRICS_FILE
        self._columns: list[str] | None = None
        self._last_row: dict[str, str] = {}

    @property
    @override
    def name(self) -> str:
        return "metrics"

    @property
    @override
    def version(self) -> str:
        return ""

    @override
    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object
    ) -> None:
        """Nothing to do: the run's ``config.yaml`` holds the configuration."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {_STEP: repr(step), **{name: repr(value) for name, value in metrics.items()}}
        if row == self._last_row:
            return  # logged before a checkpoint of the step, and again by Lightning after it
        self._last_row = row
        if self._columns is None:
            self._start(row)
        assert self._columns is not None
        if new := [name for name in row if name not in self._columns]:
            self._write([*self._columns, *new], _rows(self.path))
        with self.path.open("a", newline="") as file:
            file.write(_line([row.get(name, "") for name in self._columns]))

    def _start(self, row: dict[str, str]) -> None:
        """Take over the rows of an earlier start, up to where this one does steps again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = _rows(self.path)
        step = int(row[_STEP])
        names = _filled(row) - {_EPOCH}
        kept: list[dict[str, str]] = []
        for old in rows:
            # A row of the same step with other metrics, as of a validation, is the step's other
            # half; one with the same metrics is its former doing.
            if int(old[_STEP]) > step or (int(old[_STEP]) == step and _filled(old) & names):
                break
            kept.append(old)
        columns = dict.fromkeys(name for old in [{_STEP: ""}, *rows] for name in old)
        self._write(list(columns), kept)

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        """The whole table, through a rename."""
        lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
        write_atomically(self.path, "".join(map(_line, lines)))
        self._columns = columns


def read_metrics(run_dir: str) -> dict[int, dict[str, float]]:
    """Metrics by step, in order."""
    by_step: dict[int, dict[str, float]] = {}
    for row in _rows(Path(run_dir) / METRICS_FILE):
        values = {name: float(row[name]) for name in _filled(row)}
        by_step.setdefault(int(row[_STEP]), {}).update(values)
    return dict(sorted(by_step.items()))


def _rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a table; none if there is no file.

    A row torn by a kill is left out: its step is done again.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        complete, _, _ = file.read().rpartition("\n")
    return list(csv.DictReader(io.StringIO(complete)))


def _filled(row: dict[str, str]) -> set[str]:
    return {name for name, value in row.items() if value and name != _STEP}


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
