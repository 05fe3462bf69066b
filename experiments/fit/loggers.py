"""Loggers of a run: always ``metrics.csv``, and those that are configured."""

import json
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import (
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
    mlflow,
    wandb,
)
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import MetricsLog
from vidreason.atomic_file import write_json_atomically

PROJECT = "vidreason"
"""Project of W&B, or experiment of MLflow, unless their own environment variable names another."""
LOGGER_IDS_FILE = "loggers.json"
"""In the run folder: the names under which W&B and MLflow know the run, to continue it there."""


def check_loggers(names: Sequence[str]) -> None:
    """Make sure that the packages of the loggers ``names`` are installed; none is imported.

    Raises:
        ValueError: One is not; the message names the extra that brings it.
    """
    # As Lightning finds out, without importing them.
    installed = {"wandb": wandb._WANDB_AVAILABLE, "mlflow": mlflow._MLFLOW_AVAILABLE}
    for name in names:
        if not installed.get(name, True):
            raise ValueError(
                f"trainer.loggers names {name!r}, whose package is not installed: "
                f"pip install 'vidreason[{name}]', or take it off the list"
            )


def build_loggers(config: ExperimentConfig, first_step: int | None = None) -> list[Logger]:
    """Return the loggers of a run; a resumed run continues the former logs.

    Args:
        config: The run's.
        first_step: Optimizer steps made before a resume; TensorBoard drops what it has of later
            ones, which are made again.

    Raises:
        ValueError: A logger's package is not installed.
    """
    build: dict[str, Callable[[Path], Logger]] = {
        "tensorboard": lambda folder: _TensorBoard(
            folder, "tensorboard", "", default_hp_metric=False, purge_step=first_step
        ),
        "wandb": _wandb,
        "mlflow": _mlflow,
    }
    check_loggers(config.trainer.loggers)
    folder = Path(config.run_dir)
    return [MetricsLog(config.run_dir), *(build[name](folder) for name in config.trainer.loggers)]


def log_settings(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> None:
    """Tell loggers how a run is configured, on rank 0; ``metrics.csv`` has ``config.yaml`` beside.

    Args:
        loggers: Of :func:`build_loggers`.
        settings: Values by dotted key.
    """
    values = {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in settings.items()
    }
    for logger in loggers:
        logger.log_hyperparams(values)


class _TensorBoard(TensorBoardLogger):
    """Lightning's, which shows hyperparameters only beside a value of a metric at step 0."""

    @override
    @rank_zero_only
    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace,
        metrics: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        super().log_hyperparams(params)
        writer = self.experiment._get_file_writer()
        names = dict.fromkeys(("val/loss", "train/loss"), 0.0)  # only their names are written
        values = dict(vars(params) if isinstance(params, Namespace) else params)
        for summary in hparams(values, names):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)


class _MLFlow(MLFlowLogger):
    """Lightning's, but a run that is continued keeps the parameters that it began with.

    MLflow refuses to change one, and what may differ from start to start would end the run.
    """

    is_continued = False

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        if not self.is_continued:
            super().log_hyperparams(params)


def _wandb(folder: Path) -> Logger:
    # Made up here and not by W&B, which offline would begin another run at each start.
    known = _known_id(folder, "wandb") or os.urandom(4).hex()
    logger = WandbLogger(
        name=folder.name,
        save_dir=folder,
        id=known,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
    )
    _remember_id(folder, "wandb", known)
    return logger


def _mlflow(folder: Path) -> Logger:
    logger = _MLFlow(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{folder.absolute() / 'mlflow.db'}",
        artifact_location=(folder / "mlflow").absolute().as_uri(),
        run_id=_known_id(folder, "mlflow"),
    )
    logger.is_continued = _known_id(folder, "mlflow") is not None
    # The server makes the name up when it is first asked for, which only rank 0 does.
    rank_zero_only(lambda: _remember_id(folder, "mlflow", str(logger.run_id)))()
    return logger


def _known_id(folder: Path, logger: str) -> str | None:
    path = folder / LOGGER_IDS_FILE
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return known.get(logger)


@rank_zero_only
def _remember_id(folder: Path, logger: str, run_id: str) -> None:
    path = folder / LOGGER_IDS_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json_atomically(path, {**known, logger: run_id})
