"""Which points a sweep tries, and its table."""

import csv
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.experiment_config import ExperimentConfig
from experiments.jobs import Job, is_finished, read_record, write_record
from experiments.kept_runs import predictions_file
from experiments.sweep import run as sweep_module
from experiments.sweep.__main__ import main
from experiments.sweep.config import Range, SweepConfig
from experiments.sweep.run import sweep
from experiments.sweep.scores import trial_accuracy
from experiments.sweep.trials import draw_parameters, make_trial
from vidreason.config import merge_config
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction

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


def nextqa(split: str, root: str = "", **others: object) -> dict[str, object]:
    return {"reader": "nextqa", "root": root or "nextqa", "split": split, **others}


@pytest.fixture
def make_config(tiny_experiment, tmp_path):
    """A sweep over a benchmark of these corpora."""

    def make(benchmark: list, validation: list | None = None, **changes: object) -> SweepConfig:
        data: dict[str, object] = {"benchmark": benchmark}
        if validation is not None:
            data["validation"] = validation
        overlay = tmp_path / f"benchmark{len(list(tmp_path.glob('*.yaml')))}.yaml"
        overlay.write_text(json.dumps({"data": data}))
        return SweepConfig(
            configs=[str(tiny_experiment), str(overlay)],
            run_dir=str(tmp_path / "sweep"),
            **{"choices": {RATE: [0.01, 0.02], "reasoner.lora.rank": [2, 4]}, **changes},
        )

    return make


@pytest.fixture
def config(make_config) -> SweepConfig:
    return make_config([nextqa("val")])


def finish(
    evaluation: Job,
    num_right: int,
    num_questions: int = 4,
    corpus: str = "nextqa",
    videos: str = "",
) -> None:
    """As if a trial had answered, the first questions rightly."""
    rows = [
        BenchmarkPrediction(
            id=f"{corpus}{number}",
            corpus=corpus,
            video_id=f"{videos}{number}",
            question_type="CW",
            options=("yes", "no"),
            option_log_likelihoods=(0.0, -1.0) if number < num_right else (-1.0, 0.0),
            reference=0,
        )
        for number in range(num_questions)
    ]
    path = predictions_file(evaluation.config, "none")
    before = read_predictions(path) if path.is_file() else []
    write_predictions(path, [*before, *rows])
    (path.parent / "metrics.json").write_text("{}")
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


@pytest.fixture
def results(monkeypatch):
    """Sweep with jobs that are as they are, except that tests get answered; read what it wrote."""

    def run(config: SweepConfig, test: Callable[[Job], None] | None = None):
        def run_jobs(jobs: list[Job], **_: object) -> list[Job]:
            for job in jobs:
                if job.folder.name.startswith("test-") and not is_finished(job):
                    tested.append(job)
                    if test is not None:
                        test(job)
            return []

        tested: list[Job] = []
        monkeypatch.setattr(sweep_module, "run_jobs", run_jobs)
        assert sweep(config) == 0
        folder = Path(config.run_dir, "results")
        with (folder / "sweep.csv").open(newline="") as stream:
            return list(csv.DictReader(stream)), (folder / "sweep.md").read_text(), tested

    return run


def test_the_table_has_the_best_trial_first_and_names_what_is_missing(config, results, capsys):
    trials = [make_trial(config, parameters) for parameters in draw_parameters(config)]
    for trial, num_right in zip(trials[:3], (1, 4, 2), strict=True):
        finish(trial.evaluation, num_right)
    assert trial_accuracy(config, trials[1]) == 1.0
    assert math.isnan(trial_accuracy(config, trials[3]))
    rows, text, tested = results(config)
    assert [(row[RATE], row["reasoner.lora.rank"], row["accuracy"]) for row in rows] == [
        ("0.01", "4", "1"),
        ("0.02", "2", "0.5"),
        ("0.01", "2", "0.25"),
        ("0.02", "4", ""),
    ]
    assert [row["verdict"] for row in rows][::3] == ["chosen", "not finished"]
    assert "4 trials by accuracy, validation: nextqa" in capsys.readouterr().out
    assert "1 trials have no score" in text
    assert "There is no test split in data.benchmark" in text
    assert not tested


def test_each_trial_has_n_an_interval_and_its_paired_difference_to_the_best(config, results):
    trials = [make_trial(config, parameters) for parameters in draw_parameters(config)]
    for trial, num_right in zip(trials, (30, 10, 28, 30), strict=True):
        finish(trial.evaluation, num_right, 40)
    rows, text, _ = results(config)
    assert [row["num_items"] for row in rows] == [row["num_videos"] for row in rows] == ["40"] * 4
    # Of equal ones the first is chosen.
    assert [row["verdict"] for row in rows] == [
        *("chosen", "within noise", "within noise", "worse"),
    ]
    assert (rows[0]["best_minus_this"], rows[0]["p_value"]) == ("", "")
    for row, difference in zip(rows[1:], (0, 2 / 40, 20 / 40), strict=True):
        assert float(row["best_minus_this"]) == pytest.approx(difference)
        assert float(row["best_minus_this_low"]) <= difference <= float(row["best_minus_this_high"])
        assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])
    # One question a video: McNemar's exact test, then Holm's correction over three.
    assert float(rows[2]["p_value"]) == pytest.approx(0.5)
    assert float(rows[3]["p_value"]) == pytest.approx(2 / 2**20)
    assert float(rows[3]["p_value_holm"]) == pytest.approx(3 * 2 / 2**20)
    assert "2 of the other 3 trials are within noise" in text
    assert "The best of 4 is optimistic" in text
    assert " 75.0 [" in text


def test_all_worse_is_said_too(config, results):
    for parameters, right in zip(draw_parameters(config), (40, 1, 2, 3), strict=True):
        finish(make_trial(config, parameters).evaluation, right, 40)
    rows, text, _ = results(config)
    assert {row["verdict"] for row in rows[1:]} == {"worse"}
    assert "All of the other 3 trials are worse" in text


def test_corpora_weigh_the_same_in_the_mean_whatever_their_sizes(make_config, results):
    corpora = [nextqa("val"), nextqa("val", name="mine")]
    config = make_config(corpora, choices={RATE: [0.01, 0.02]})
    for rate, of_nextqa, of_mine in ((0.01, 40, 0), (0.02, 0, 10)):
        evaluation = make_trial(config, {RATE: rate}).evaluation
        finish(evaluation, of_nextqa, 40)
        finish(evaluation, of_mine, 10, "mine", "m")
    rows, text, _ = results(config)
    assert [row["accuracy"] for row in rows] == ["0.5", "0.5"]  # and not 0.8 and 0.2
    assert rows[0]["num_items"] == "50"
    assert "mean over mine, nextqa" in text
    config.corpus = "mine"
    rows, _, _ = results(config)
    assert [(row[RATE], row["accuracy"]) for row in rows] == [("0.02", "1"), ("0.01", "0")]


def test_the_test_split_is_answered_once_by_the_chosen_trial(make_config, results):
    config = make_config([nextqa("val"), nextqa("test")], choices={RATE: [0.01, 0.02]})
    trials = [make_trial(config, {RATE: rate}) for rate in (0.01, 0.02)]
    for trial, num_right in zip(trials, (1, 3), strict=True):
        assert [c.split for c in trial.evaluation.config.data.benchmark] == ["val"]
        finish(trial.evaluation, num_right)
    _, text, tested = results(config, lambda job: finish(job, 2, videos="t"))
    assert [job.needs for job in tested] == [(tested[0].needs[0],)]
    assert tested[0].needs[0].key == trials[1].training.key
    assert [c.split for c in tested[0].config.data.benchmark] == ["test"]
    assert tested[0].config.model.startswith(str(trials[1].training.folder))
    assert "Held-out test, nextqa: accuracy in %" in text
    assert "| 50.0 " in text
    assert "chosen on (" not in text
    # Again: nothing is answered; another choice is another look.
    assert not results(config)[2]
    write_predictions(predictions_file(trials[1].evaluation.config, "none"), [])
    finish(trials[1].evaluation, 0)
    _, text, tested = results(config, lambda job: finish(job, 4))
    assert tested[0].needs[0].key == trials[0].training.key
    assert "has been answered 2 times in this folder" in text
    assert "4 of the 4 test videos were also chosen on (0, 1, 2)" in text


def test_where_the_benchmark_is_a_test_the_validation_corpora_of_its_names_decide(make_config):
    validation = [nextqa("val"), nextqa("val", name="other"), nextqa("test", limit=2)]
    questions = make_trial(make_config([nextqa("test")], validation), {RATE: 0.01}).questions
    assert [str(c) for c in questions.decisive] == ["corpus 'nextqa', split 'val' in 'nextqa'"]
    assert [c.split for c in questions.held_out] == ["test"]


NOTHING_TO_CHOOSE_ON = "List one of these corpora with its validation split.*choose_on=test_split"


@pytest.mark.parametrize(
    ("benchmark", "validation", "message"),
    [
        ([nextqa("test")], [], NOTHING_TO_CHOOSE_ON),
        ([nextqa("Test_public")], [nextqa("val", name="other")], NOTHING_TO_CHOOSE_ON),
        ([{"reader": "mvbench", "root": "x", "split": "val"}], [], NOTHING_TO_CHOOSE_ON),
        ([], [nextqa("val")], "data.benchmark is empty"),
        ([nextqa("train", "TRAINED")], [], "by what they are trained on"),
    ],
)
def test_a_test_split_does_not_choose(make_config, tiny_experiment, benchmark, validation, message):
    trained = merge_config(ExperimentConfig, [str(tiny_experiment)]).data.train[0]
    benchmark = [{**c, "root": c["root"].replace("TRAINED", trained.root)} for c in benchmark]
    with pytest.raises(ValueError, match=message):
        make_trial(make_config(benchmark, validation), {RATE: 0.01})


def test_a_test_split_chooses_where_the_words_say_so_and_the_table_says_it(make_config, results):
    config = make_config([nextqa("test")], [], choices={RATE: [1, 2]})
    config.choose_on = "test_split_knowingly"
    for parameters in draw_parameters(config):
        finish(make_trial(config, parameters).evaluation, 2)
    _, text, tested = results(config)
    assert "CHOSEN ON THE TEST SPLIT" in text
    assert "none of these numbers is a result on held-out questions" in text
    assert not tested


def test_trials_that_would_answer_other_questions_are_refused_before_they_train(config):
    config.choices = {"data.limit": [2, 3]}
    with pytest.raises(ValueError, match=r"'data\.limit=2' and 'data\.limit=3' would answer"):
        sweep(config)
    assert not Path(config.run_dir, "jobs").exists()


def test_predictions_that_were_deleted_are_named(config, results):
    config.choices = {RATE: [0.01, 0.02]}
    first, second = (make_trial(config, {RATE: rate}) for rate in (0.01, 0.02))
    for trial in (first, second):
        finish(trial.evaluation, 2)
    predictions_file(first.evaluation.config, "none").unlink()
    rows, _, _ = results(config)
    assert [row["verdict"][:25] for row in rows] == ["chosen", "its predictions are gone:"]


def test_without_a_finished_trial_nothing_is_chosen(config, results):
    rows, text, _ = results(config)
    assert {row["verdict"] for row in rows} == {"not finished"}
    assert "No trial has finished" in text


def test_a_benchmark_that_is_not_there_is_named_before_anything_runs(config):
    config.corpus = "vcr"
    with pytest.raises(ValueError, match="'vcr' is not among those that decide, nextqa"):
        make_trial(config, {RATE: 0.01})


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
    with Path(config.run_dir, "results", "sweep.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["accuracy"] == "1"


def test_without_optuna_its_method_says_how_to_get_it(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    arguments = [f"configs=[{','.join(config.configs)}]", f"run_dir={config.run_dir}"]
    arguments += ["method=optuna", "choices.seed=[1,2]"]
    assert main(arguments) == 2
    assert "pip install 'vidreason[sweep]'" in capsys.readouterr().err
