"""Where a run's metrics go: always to ``metrics.csv``, and to the loggers that are asked for."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from experiments.experiment_config import ExperimentConfig
from experiments.metrics_log import MetricsLog

PROJECT = "vidreason"
"""Project of W&B, or experiment of MLflow, unless their own environment variable names another."""
LOGGER_IDS_FILE = "loggers.json"
"""In the run folder: the names under which W&B and MLflow know the run, to continue it there."""


def build_loggers(config: ExperimentConfig) -> list[Logger]:
    """The loggers of a run; one that is resumed goes on in the former logs.

    Raises:
        ValueError: A logger's package is not installed.
    """
    build: dict[str, Callable[[Path], Logger]] = {
        "tensorboard": lambda folder: TensorBoardLogger(
            folder, "tensorboard", "", default_hp_metric=False
        ),
        "wandb": _wandb,
        "mlflow": _mlflow,
    }
    loggers: list[Logger] = [MetricsLog(config.run_dir)]
    for name in config.trainer.loggers:
        try:
            loggers.append(build[name](Path(config.run_dir)))
        except ModuleNotFoundError as error:
            raise ValueError(
                f"trainer.loggers names {name!r}, whose package is not installed ({error}): "
                f"pip install 'vidreason[{name}]', or take it off the list"
            ) from error
    return loggers


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
    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{folder.absolute() / 'mlflow.db'}",
        artifact_location=(folder / "mlflow").absolute().as_uri(),
        run_id=_known_id(folder, "mlflow"),
    )
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
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**known, logger: run_id}, indent=1) + "\n")
    os.replace(partial, path)
