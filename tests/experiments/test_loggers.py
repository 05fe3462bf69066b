"""Where metrics go; W&B and MLflow are replaced by recordings, for they are extras."""

import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from experiments.experiment_config import ExperimentConfig, TrainerConfig
from experiments.fit import loggers
from experiments.fit.loggers import build_loggers, log_settings
from experiments.fit.metrics_log import MetricsLog
from vidreason.config import merge_config


def config(folder: Path, *names: str) -> ExperimentConfig:
    return ExperimentConfig(run_dir=str(folder / "run"), trainer=TrainerConfig(loggers=list(names)))


class Recording:
    """Stands for either logger: keeps its arguments; like MLflow's, it has an id once asked."""

    def __init__(self, **options: object) -> None:
        self.options = options

    @property
    def run_id(self) -> object:
        return self.options["run_id"] or "given-by-the-server"


def test_a_table_always_and_tensorboard_by_default(tmp_path):
    built = build_loggers(ExperimentConfig(run_dir=str(tmp_path)))
    assert isinstance(built[0], MetricsLog)
    assert isinstance(built[1], TensorBoardLogger)
    assert len(built) == 2
    assert [type(logger) for logger in build_loggers(config(tmp_path))] == [MetricsLog]


@pytest.mark.parametrize(
    ("name", "flag"), [("wandb", "wandb._WANDB_AVAILABLE"), ("mlflow", "mlflow._MLFLOW_AVAILABLE")]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    tmp_path, name, flag, monkeypatch
):
    monkeypatch.setattr(f"lightning.pytorch.loggers.{flag}", False)
    with pytest.raises(ValueError, match=rf"{name!r}.*pip install 'vidreason\[{name}\]'"):
        build_loggers(config(tmp_path, name))


def test_an_unknown_logger_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neptune"):
        merge_config(ExperimentConfig, [], ["trainer.loggers=[neptune]"])


def test_a_resumed_run_goes_on_in_the_same_logs(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", True)
    monkeypatch.setattr(loggers, "WandbLogger", Recording)
    monkeypatch.setattr(loggers, "_MLFlow", Recording)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    starts = [build_loggers(config(tmp_path, "wandb", "mlflow"))[1:] for _ in range(2)]
    (first_wandb, first_mlflow), (wandb, mlflow) = starts
    assert wandb.options == first_wandb.options
    assert len(wandb.options["id"]) == 8
    assert (wandb.options["project"], wandb.options["name"]) == ("mine", "run")
    assert (first_mlflow.options["run_id"], mlflow.options["run_id"]) == (
        None,
        "given-by-the-server",
    )
    assert mlflow.options["tracking_uri"] == f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}"
    assert json.loads((tmp_path / "run" / "loggers.json").read_text()) == {
        "wandb": wandb.options["id"],
        "mlflow": "given-by-the-server",
    }


def test_tensorboard_shows_the_configuration(tmp_path):
    built = build_loggers(ExperimentConfig(run_dir=str(tmp_path)))
    settings = {"optimizer.learning_rate": 0.5, "optimizer.betas": [0.9, 0.98], "lora": None}
    log_settings(built, settings)
    for logger in built:
        logger.finalize("success")
    [path] = (tmp_path / "tensorboard").glob("events*")
    values = {v.tag: v for event in EventFileLoader(str(path)).Load() for v in event.summary.value}
    info = values.pop("_hparams_/session_start_info").metadata.plugin_data.content
    shown = HParamsPluginData.FromString(info).session_start_info.hparams
    assert shown["optimizer.learning_rate"].number_value == 0.5
    assert shown["optimizer.betas"].string_value == "[0.9, 0.98]"
    assert shown["lora"].string_value == "None"
    assert "optimizer.learning_rate" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()
    assert all(tag.startswith("_hparams_/") for tag in values)  # no made-up value of a metric
