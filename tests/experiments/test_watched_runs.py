"""Runs of the program that end by themselves, and what they leave behind."""

import csv
import json

import pytest

from callbacks.run_record import read_starts
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from experiments.program import exit_status
from vidreason.config import merge_config


def config(tiny_experiment, *overrides):
    return merge_config(ExperimentConfig, [str(tiny_experiment)], [*overrides])


def test_a_run_stops_early_and_says_so(tiny_experiment, tmp_path):
    stopping = config(
        tiny_experiment,
        *(f"run_dir={tmp_path}", "trainer.validate_every_n_steps=2"),
        # No value is better than the first by so much.
        *("trainer.early_stopping_patience=1", "trainer.early_stopping_min_delta=100"),
    )
    fit(stopping)
    fit(stopping)  # ends at once
    starts = read_starts(tmp_path)
    assert [start["end"]["step"] for start in starts] == [4, 4]
    for start in starts:
        assert start["end"]["cause"].startswith("stopped early: Monitored metric val/loss")
    assert json.loads((tmp_path / "speed.json").read_text())["steps"] == 4
    assert (tmp_path / "reasoner").is_dir()
    with (tmp_path / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {"train/gradient_norm_fusion", "train/gradient_norm_lora"} <= columns


@pytest.mark.filterwarnings("ignore:step . is left out")
def test_a_run_that_diverges_ends_with_a_status_and_a_line(tiny_experiment, tmp_path, capsys):
    diverging = config(
        tiny_experiment,
        *(f"run_dir={tmp_path}", "optimizer.learning_rate=3"),
        *("guard.spike_deviations=0.001", "guard.window=2", "guard.max_skipped=0"),
    )
    assert exit_status("fit", lambda: fit(diverging)) == 1
    error = capsys.readouterr().err
    assert "fit: 1 optimizer steps had to be left out, more than guard.max_skipped=0" in error
    [line] = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert len(json.loads(line)["ids_by_rank"][0]) == 4
    assert "DivergedError" in read_starts(tmp_path)[0]["end"]["cause"]


@pytest.mark.parametrize(
    "waits",
    [
        "trainer.early_stopping_patience=2",
        "freeze_schedule=[{part: lora, when_metric: val/loss, patience: 1}]",
    ],
)
def test_what_waits_for_validations_needs_some(tiny_experiment, waits):
    with pytest.raises(ValueError, match=r"waits for validations, and there are none: list corp"):
        config(tiny_experiment, "data.validation=[]", waits)
