"""A run's logged metrics as text, ``metrics.jsonl``: exact, and complete after a kill."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

METRICS_FILE = "metrics.jsonl"


class MetricsLog(Logger):
    """Append ``{"step": ..., "<metric>": ...}`` to ``<run_dir>/metrics.jsonl``, a line at a time.

    A run that was killed and resumed repeats the steps since its checkpoint: read with
    :func:`read_metrics`.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__()
        self.path = Path(run_dir) / METRICS_FILE

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
        line = json.dumps({"step": step, **metrics}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(line)


def read_metrics(run_dir: str) -> dict[int, dict[str, float]]:
    """Metrics by step, in order; where a step was logged again after a resume, the later values."""
    by_step: dict[int, dict[str, float]] = {}
    for line in (Path(run_dir) / METRICS_FILE).read_text().splitlines():
        try:
            metrics = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line torn by a power cut; its step was run again
        by_step.setdefault(int(metrics.pop("step")), {}).update(metrics)
    return dict(sorted(by_step.items()))
