"""Which points a sweep tries, and its table."""

import json
import math
import statistics
import sys
from pathlib import Path

import pytest

from experiments.jobs import Job, is_finished, read_record, write_record
from experiments.sweep import run as sweep_module
from experiments.sweep.__main__ import main
from experiments.sweep.config import Range, SweepConfig
from experiments.sweep.run import (
    draw_parameters,
    make_trial,
    sweep,
    trial_accuracy,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, write_predictions

RATE = "optimizer.learning_rate"


def test_a_grid_has_every_combination_once():
    config = SweepConfig(configs=["a"], choices={RATE: [1e-3, 1e-2], "seed": [0, 1, 2]})
    points = draw_parameters(config)
    assert len(points) == 6
    assert {(point[RATE], point["seed"]) for point in points} == {
        (rate, seed) for rate in (1e-3, 1e-2) for seed in (0, 1, 2)
    }


def test_random_points_lie_in_their_ranges_and_depend_on_the_seed_alone():
    def points(seed: int) -> list[dict[str, object]]:
        return draw_parameters(
            SweepConfig(
                configs=["a"],
                method="random",
                num_trials=200,
                seed=seed,
                choices={"reasoner.lora.rank": [4, 8]},
                ranges={
                    RATE: Range(low=1e-5, high=1e-1, log=True),
                    "optimizer.warmup_steps": Range(low=1, high=9, whole=True),
                },
            )
        )

    drawn = points(0)
    assert drawn == points(0) != points(1)
    rates = [point[RATE] for point in drawn]
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    # Evenly by the logarithm: half of them below the geometric mean, not one in a hundred.
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.6
    assert {point["optimizer.warmup_steps"] for point in drawn} == set(range(1, 10))
    assert {point["reasoner.lora.rank"] for point in drawn} == {4, 8}


def test_equal_draws_are_one_trial():
    config = SweepConfig(configs=["a"], method="random", num_trials=50, choices={"seed": [1, 2]})
    assert sorted(point["seed"] for point in draw_parameters(config)) == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "configs is empty"),
        ({"configs": ["a"]}, "choices and ranges are empty"),
        ({"configs": ["a"], "ranges": {"seed": Range()}}, "method 'grid' needs choices"),
        ({"configs": ["a"], "choices": {"seed": []}}, "seed has no value"),
        (
            {
                "configs": ["a"],
                "method": "random",
                "choices": {"seed": [1]},
                "ranges": {"seed": Range()},
            },
            "in choices and in ranges",
        ),
    ],
)
def test_a_wrong_sweep_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**wrong)
    with pytest.raises(ValueError, match="low > 0 for log=true"):
        Range(low=0.0, high=1.0, log=True)


@pytest.fixture
def config(tiny_experiment, tmp_path) -> SweepConfig:
    corpus = {"reader": "nextqa", "root": str(tiny_experiment.parent / "nextqa"), "split": "val"}
    overlay = tmp_path / "benchmark.yaml"
    overlay.write_text(json.dumps({"data": {"benchmark": [corpus]}}))
    return SweepConfig(
        configs=[str(tiny_experiment), str(overlay)],
        run_dir=str(tmp_path / "sweep"),
        choices={RATE: [0.01, 0.02], "reasoner.lora.rank": [2, 4]},
    )


def finish(evaluation: Job, num_right: int) -> None:
    """As if a trial had answered 4 questions."""
    rows = [
        BenchmarkPrediction(
            id=str(number),
            corpus="nextqa",
            video_id=str(number),
            question_type="CW",
            options=("yes", "no"),
            option_log_likelihoods=(0.0, -1.0) if number < num_right else (-1.0, 0.0),
            reference=0,
        )
        for number in range(4)
    ]
    write_predictions(sweep_module.predictions_file(evaluation.config, "none"), rows)
    for job in (*evaluation.needs, evaluation):
        record = read_record(job)
        record.state = "finished"
        write_record(job, record)


def test_a_trial_trains_with_its_values_and_evaluates_what_it_trained(config):
    trial = make_trial(config, {RATE: 0.02, "reasoner.lora.rank": 4})
    trained, evaluated = trial.training.config, trial.evaluation.config
    assert (trained.optimizer.learning_rate, trained.reasoner.lora.rank) == (0.02, 4)
    assert evaluated.model == f"{trained.run_dir}/reasoner"
    assert trial.evaluation.needs == (trial.training,)
    same = make_trial(config, {"reasoner.lora.rank": 4, RATE: 0.02})
    assert same.evaluation.key == trial.evaluation.key
    with pytest.raises(ValueError, match="learning_rat"):
        make_trial(config, {"optimizer.learning_rat": 0.02})


def test_the_table_has_the_best_trial_first_and_names_what_is_missing(config, monkeypatch, capsys):
    trials = [make_trial(config, parameters) for parameters in draw_parameters(config)]
    for trial, num_right in zip(trials[:3], (1, 4, 2), strict=True):
        finish(trial.evaluation, num_right)
    assert trial_accuracy(config, trials[1]) == 1.0
    assert math.isnan(trial_accuracy(config, trials[3]))
    monkeypatch.setattr(sweep_module, "run_jobs", lambda jobs, **_: [])
    assert sweep(config) == 0
    lines = Path(config.run_dir, "results", "sweep.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines] == [
        [RATE, "reasoner.lora.rank", "accuracy in %"],
        ["0.01", "4", "100.00"],
        ["0.02", "2", "50.00"],
        ["0.01", "2", "25.00"],
        ["0.02", "4", "not finished"],
    ]
    assert "4 trials by accuracy" in capsys.readouterr().out


def test_a_benchmark_that_is_not_there_is_named(config):
    config.corpus = "vcr"
    trial = make_trial(config, {RATE: 0.01})
    finish(trial.evaluation, 1)
    with pytest.raises(ValueError, match="'vcr' is not among"):
        trial_accuracy(config, trial)


def test_optuna_learns_from_the_accuracies_and_goes_on_where_it_was_stopped(config, monkeypatch):
    pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    config.method, config.num_trials, config.max_parallel = "optuna", 40, 2
    config.choices, config.ranges = {}, {RATE: Range(low=1e-5, high=1e-1, log=True)}
    proposed: list[float] = []
    done: list[float] = []
    stops = {12}

    def run(jobs: list[Job], **_: object) -> list[Job]:
        if len(done) in stops:
            stops.clear()
            raise KeyboardInterrupt
        for job in jobs:
            rate = job.config.optimizer.learning_rate
            proposed.append(rate)
            if not is_finished(job):
                done.append(rate)
                finish(job, round(4 - 2 * abs(math.log10(rate) + 3)))  # best at 1e-3
        return []

    monkeypatch.setattr(sweep_module, "run_jobs", run)
    with pytest.raises(KeyboardInterrupt):
        sweep(config)
    first = proposed.copy()
    proposed.clear()
    assert sweep(config) == 0
    assert proposed[:12] == first == done[:12]
    assert done == proposed  # nothing twice
    assert len(set(proposed)) == 40
    misses = [abs(math.log10(rate) + 3) for rate in proposed]
    assert statistics.mean(misses[-20:]) < 0.6  # evenly drawn ones miss by 1 on average
    best = Path(config.run_dir, "results", "sweep.csv").read_text().splitlines()[1]
    assert best.split(",")[1] == "100.00"


def test_without_optuna_its_method_says_how_to_get_it(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    arguments = [f"configs=[{','.join(config.configs)}]", f"run_dir={config.run_dir}"]
    arguments += ["method=optuna", "choices.seed=[1,2]"]
    assert main(arguments) == 2
    assert "pip install 'vidreason[sweep]'" in capsys.readouterr().err
