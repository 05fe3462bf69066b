"""Trials of a sweep: drawn, trained, evaluated, and written as a table."""

import csv
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablate.results import RESULTS_FOLDER
from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume_rules import learnt_settings
from experiments.jobs import Job, experiment_job, is_finished, run_jobs
from experiments.kept_runs import predictions_file
from experiments.sweep.config import Range, SweepConfig
from experiments.trained_model import REASONER_FOLDER
from vidreason.config import merge_config
from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.predictions.rows import read_predictions
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.tables import Table

Value = int | float | str | bool


Parameters = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a sweep."""

    parameters: Parameters
    training: Job
    evaluation: Job


def sweep(config: SweepConfig) -> int:
    """Run what is not done yet, and write the table.

    Returns: 1 if a job failed, else 0.
    """
    if config.method == "optuna":
        trials, failed = _run_optuna(config)
    else:
        trials = [make_trial(config, parameters) for parameters in draw_parameters(config)]
        failed = run_jobs(
            [trial.evaluation for trial in trials],
            max_parallel=config.max_parallel,
            threads=config.threads,
        )
    write_table(config, trials)
    return int(bool(failed))


def draw_parameters(config: SweepConfig) -> list[Parameters]:
    """The different points of a grid or random sweep, in order; a function of ``config`` alone."""
    if config.method == "grid":
        keys = list(config.choices)
        return [
            dict(zip(keys, values, strict=True))
            for values in itertools.product(*config.choices.values())
        ]
    generator = random.Random(config.seed)
    # Equal points are one: a dictionary by their JSON.
    drawn: dict[str, Parameters] = {}
    for _ in range(config.num_trials):
        point: Parameters = {key: generator.choice(v) for key, v in config.choices.items()}
        point |= {key: _draw(bounds, generator) for key, bounds in config.ranges.items()}
        drawn.setdefault(json.dumps(point), point)
    return list(drawn.values())


def make_trial(config: SweepConfig, parameters: Parameters) -> Trial:
    """The jobs of a point.

    Raises:
        ValueError: A key is unknown, or a value does not fit it.
    """
    overrides = [*config.overrides, *(f"{k}={json.dumps(v)}" for k, v in parameters.items())]
    experiment = merge_config(ExperimentConfig, config.configs, overrides)
    label = " ".join(f"{key}={_text(value)}" for key, value in parameters.items())
    training = experiment_job(
        config.run_dir,
        "fit",
        "experiments.fit",
        experiment,
        learnt_settings(experiment),
        title=f"fit: {label}",
    )
    # The same settings, but answering with the reasoner that the training job writes.
    evaluated = merge_config(ExperimentConfig, config.configs, overrides)
    evaluated.model = str(training.folder / REASONER_FOLDER)
    evaluated.controls = ["none"]
    settings = [evaluated.data.benchmark, evaluated.evaluation, evaluated.decoding]
    evaluation = experiment_job(
        config.run_dir,
        "evaluate",
        "experiments.evaluate",
        evaluated,
        settings,
        title=f"evaluate: {label}",
        needs=(training,),
    )
    return Trial(parameters=parameters, training=training, evaluation=evaluation)


def trial_accuracy(config: SweepConfig, trial: Trial) -> float:
    """Return the accuracy of a trial, a fraction; NaN if it has not finished.

    Raises:
        ValueError: ``config.corpus`` is no benchmark of the configuration.
    """
    if not is_finished(trial.evaluation):
        return math.nan
    rows = read_predictions(predictions_file(trial.evaluation.config, "none"))
    means = {s.corpus: s.score.mean for s in score_predictions(rows) if s.group == ALL}
    if config.corpus and config.corpus not in means:
        raise ValueError(f"corpus {config.corpus!r} is not among the benchmarks {list(means)}")
    return means[config.corpus] if config.corpus else float(np.mean(list(means.values())))


def write_table(config: SweepConfig, trials: Sequence[Trial]) -> None:
    """Print the trials, best first, and write them as ``sweep.md`` and ``sweep.csv``."""
    scored = sorted(
        ((trial_accuracy(config, trial), trial) for trial in trials),
        key=lambda pair: -math.inf if math.isnan(pair[0]) else pair[0],
        reverse=True,
    )
    keys = list(dict.fromkeys(key for trial in trials for key in trial.parameters))
    rows = [
        (
            *(_text(trial.parameters[key]) for key in keys),
            "not finished" if math.isnan(accuracy) else f"{100 * accuracy:.2f}",
            str(trial.training.folder),
        )
        for accuracy, trial in scored
    ]
    name = config.corpus or "mean of the benchmarks"
    header = (*keys, "accuracy in %", "run")
    table = Table(f"{len(trials)} trials by accuracy, {name}", header, tuple(rows))
    folder = Path(config.run_dir) / RESULTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.md").write_text(table.to_markdown() + "\n")
    with (folder / "sweep.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    print(table.to_text(), flush=True)


def _run_optuna(config: SweepConfig) -> tuple[list[Trial], list[Job]]:
    """Ask for as many points as run at a time, tell their accuracies, and so on."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "method 'optuna' needs the package optuna: pip install 'vidreason[sweep]', or set "
            "method=random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=config.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trials: list[Trial] = []
    failed: list[Job] = []
    # Ask for as many points as run at a time, run them, tell Optuna their accuracies.
    while len(trials) < config.num_trials:
        suggestions = [
            study.ask() for _ in range(min(config.max_parallel, config.num_trials - len(trials)))
        ]
        batch = [make_trial(config, _suggest(config, one)) for one in suggestions]
        failed += run_jobs(
            [trial.evaluation for trial in batch],
            max_parallel=config.max_parallel,
            threads=config.threads,
        )
        for one, trial in zip(suggestions, batch, strict=True):
            accuracy = trial_accuracy(config, trial)
            if math.isnan(accuracy):
                study.tell(one, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(one, accuracy)
        trials += batch
    unique = {trial.evaluation.key: trial for trial in trials}
    return list(unique.values()), failed


def _suggest(config: SweepConfig, trial: Any) -> Parameters:  # noqa: ANN401 - of optuna
    point: Parameters = {
        key: trial.suggest_categorical(key, values) for key, values in config.choices.items()
    }
    for key, bounds in config.ranges.items():
        if bounds.whole:
            point[key] = trial.suggest_int(key, int(bounds.low), int(bounds.high), log=bounds.log)
        else:
            point[key] = trial.suggest_float(key, bounds.low, bounds.high, log=bounds.log)
    return point


def _draw(bounds: Range, generator: random.Random) -> Value:
    low, high = (
        (math.log(bounds.low), math.log(bounds.high)) if bounds.log else (bounds.low, bounds.high)
    )
    value = generator.uniform(low, high)
    value = min(max(math.exp(value) if bounds.log else value, bounds.low), bounds.high)
    return round(value) if bounds.whole else float(f"{value:.6g}")


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
