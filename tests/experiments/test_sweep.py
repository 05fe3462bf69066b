"""Which points a sweep tries, and its table."""

import json
import math
import sys
from pathlib import Path

import pytest

from experiments import sweep as sweep_module
from experiments.jobs import read_record, write_record
from experiments.sweep import (
    Range,
    SweepConfig,
    draw_parameters,
    main,
    make_trial,
    sweep,
    trial_accuracy,
)
from vidreason.evaluation.predictions_file import BenchmarkPrediction, write_predictions

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


def finish(trial: sweep_module.Trial, num_right: int) -> None:
    """As if the trial had answered 4 questions."""
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
    evaluated = trial.evaluation.config
    write_predictions(sweep_module.predictions_file(evaluated, "none"), rows)
    for job in (trial.training, trial.evaluation):
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
        finish(trial, num_right)
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
    finish(trial, 1)
    with pytest.raises(ValueError, match="'vcr' is not among"):
        trial_accuracy(config, trial)


def test_without_optuna_its_method_says_how_to_get_it(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    arguments = [f"configs=[{','.join(config.configs)}]", f"run_dir={config.run_dir}"]
    arguments += ["method=optuna", "choices.seed=[1,2]"]
    assert main(arguments) == 2
    assert "pip install 'vidreason[sweep]'" in capsys.readouterr().err
