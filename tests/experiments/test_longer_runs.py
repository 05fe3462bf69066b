"""A run that has ended is made longer: every step once, and never at a learning rate of 0."""

import pytest

from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from vidreason.config import merge_config


@pytest.mark.slow  # two runs; what the schedule does is shown in test_optimizer_schedule.py
def test_a_run_is_made_longer_after_its_end(tiny_experiment, tmp_path):
    given = [f"run_dir={tmp_path}", "trainer.save_reasoner=false", "data.validation=[]"]
    for num_epochs in (1, 2):
        overrides = [*given, f"data.num_epochs={num_epochs}"]
        fit(merge_config(ExperimentConfig, [str(tiny_experiment)], overrides))
    rates = {s: row["train/learning_rate"] for s, row in read_metrics(str(tmp_path)).items()}
    assert list(rates) == list(range(16))
    assert min(rates.values()) > 0
