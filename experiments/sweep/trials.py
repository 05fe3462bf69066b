"""Trials of a sweep: their points, and the jobs that train and evaluate them."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume_rules import learnt_settings
from experiments.jobs import Job, experiment_job
from experiments.sweep.config import Range, SweepConfig
from experiments.sweep.questions import Questions, sweep_questions
from experiments.trained_model import REASONER_FOLDER
from vidreason.config import merge_config

TEST_KIND = "test"
"""Beginning of the names of folders with answers to a test split."""

Value = int | float | str | bool
Parameters = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a sweep."""

    parameters: Parameters
    training: Job
    evaluation: Job
    questions: Questions

    @property
    def label(self) -> str:
        """Name in tables and messages: ``optimizer.learning_rate=0.001 seed=1``."""
        return " ".join(f"{key}={value_name(value)}" for key, value in self.parameters.items())


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
        ValueError: A key is unknown, or a value does not fit it; or there is nothing to choose on,
            see :func:`experiments.sweep.questions.sweep_questions`.
    """
    experiment = _trial_experiment(config, parameters)
    questions = sweep_questions(config, experiment.data)
    label = " ".join(f"{key}={value_name(value)}" for key, value in parameters.items())
    training = experiment_job(
        config.run_dir,
        "fit",
        "experiments.fit",
        experiment,
        learnt_settings(experiment),
        title=f"fit: {label}",
    )
    # The same settings, but answering with the reasoner that the training job writes.
    evaluated = _trial_experiment(config, parameters)
    evaluated.controls = ["none"]
    evaluated.data.benchmark = list(questions.decisive)
    evaluation = _evaluation_job(config, evaluated, training, "evaluate", label)
    return Trial(
        parameters=parameters, training=training, evaluation=evaluation, questions=questions
    )


def make_test_job(config: SweepConfig, trial: Trial) -> Job:
    """The job in which the chosen trial answers the test split, under the configured controls."""
    evaluated = _trial_experiment(config, trial.parameters)
    evaluated.data.benchmark = list(trial.questions.held_out)
    return _evaluation_job(config, evaluated, trial.training, TEST_KIND, trial.label)


def check_same_questions(trials: Sequence[Trial]) -> None:
    """Refuse trials that would answer different questions, before any of them is trained.

    Raises:
        ValueError: Two trials do.
    """
    for trial in trials:
        if trial.questions != trials[0].questions:
            raise ValueError(
                f"the trials {trials[0].label!r} and {trial.label!r} would answer different "
                "questions, so that their numbers cannot be compared: take the keys that change "
                "data.benchmark or data.limit out of choices and ranges"
            )


def value_name(value: Value) -> str:
    """A value as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _trial_experiment(config: SweepConfig, parameters: Parameters) -> ExperimentConfig:
    overrides = [*config.overrides, *(f"{k}={json.dumps(v)}" for k, v in parameters.items())]
    return merge_config(ExperimentConfig, config.configs, overrides)


def _evaluation_job(
    config: SweepConfig, experiment: ExperimentConfig, training: Job, kind: str, label: str
) -> Job:
    experiment.model = str(training.folder / REASONER_FOLDER)
    settings: list[Any] = [experiment.data.benchmark, experiment.evaluation, experiment.decoding]
    if kind == TEST_KIND:
        settings.append(experiment.controls)  # those of trials are always the same
    return experiment_job(
        config.run_dir,
        kind,
        "experiments.evaluate",
        experiment,
        settings,
        title=f"{kind}: {label}",
        needs=(training,),
    )


def _draw(bounds: Range, generator: random.Random) -> Value:
    low, high = (
        (math.log(bounds.low), math.log(bounds.high)) if bounds.log else (bounds.low, bounds.high)
    )
    value = generator.uniform(low, high)
    # exp(log(x)) may be off by its last bit, and out of bounds.
    value = min(max(math.exp(value) if bounds.log else value, bounds.low), bounds.high)
    return round(value) if bounds.whole else float(f"{value:.6g}")
