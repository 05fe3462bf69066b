"""A sweep: trials are trained and evaluated, the best is chosen, and the chosen one is tested."""

import math
from typing import Any

from experiments.jobs import Job, run_jobs
from experiments.sweep.config import SweepConfig
from experiments.sweep.results import write_results
from experiments.sweep.scores import score_trials, trial_accuracy
from experiments.sweep.trials import (
    Parameters,
    Trial,
    check_same_questions,
    draw_parameters,
    make_test_job,
    make_trial,
)


def sweep(config: SweepConfig) -> int:
    """Run what is not done yet, choose, test the chosen trial, and write the results.

    Returns: 1 if a job failed, else 0.

    Raises:
        ValueError: A trial's configuration is wrong, or there is nothing to choose on.
    """
    if config.method == "optuna":
        trials, failed = _run_optuna(config)
    else:
        trials = [make_trial(config, parameters) for parameters in draw_parameters(config)]
        check_same_questions(trials)
        failed = _run(config, [trial.evaluation for trial in trials])
    scores = score_trials(config, trials)
    test = None
    if scores.chosen is not None and scores.chosen.trial.questions.held_out:
        # After the choice, which it can no longer change.
        test = make_test_job(config, scores.chosen.trial)
        failed += _run(config, [test])
    write_results(config, scores, test)
    return int(bool(failed))


def _run(config: SweepConfig, jobs: list[Job]) -> list[Job]:
    return run_jobs(jobs, max_parallel=config.max_parallel, threads=config.threads)


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
    # Nothing of the study is stored: a new start asks for the same points, whose jobs are finished.
    sampler = optuna.samplers.TPESampler(seed=config.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trials: list[Trial] = []
    failed: list[Job] = []
    while len(trials) < config.num_trials:
        suggestions = [
            study.ask() for _ in range(min(config.max_parallel, config.num_trials - len(trials)))
        ]
        batch = [make_trial(config, _suggest(config, one)) for one in suggestions]
        # The first stands for all earlier trials, which were compared with it.
        check_same_questions([*trials[:1], *batch])
        failed += _run(config, [trial.evaluation for trial in batch])
        for one, trial in zip(suggestions, batch, strict=True):
            accuracy = trial_accuracy(config, trial)
            if math.isnan(accuracy):
                # No result, and not a bad one: the sampler learns nothing from it.
                study.tell(one, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(one, accuracy)
        trials += batch
    # A point that was suggested twice is one trial.
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
