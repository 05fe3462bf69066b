"""``DataCommandConfig``: an experiment's configuration, and how closely its data are checked."""

from dataclasses import dataclass, field

from data_modules.corpora import DataCheckConfig
from data_modules.teacher_free_config import SpanRules
from experiments.experiment_config import ExperimentConfig


@dataclass(kw_only=True)
class DataCommandConfig(ExperimentConfig):
    """An experiment's configuration, and how closely its data are looked at."""

    data_check: DataCheckConfig = field(default_factory=DataCheckConfig)
    spans: SpanRules = field(default_factory=SpanRules)
