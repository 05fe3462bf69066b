"""Metrics that a run waits for must be logged by its validations; said before it trains.

What waits for a metric chooses by it: which checkpoint is the best, when to stop, when to thaw. So
accuracies on a test split are logged as ``test/<corpus>_accuracy``, and a run chooses by one only
if it names that.
"""

import difflib
from collections.abc import Iterator

from data_modules.corpora import DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.held_out_splits import is_test_split
from experiments.experiment_config import ExperimentConfig

LOSS = "val/loss"


def check_monitored(config: ExperimentConfig, total_steps: int | None = None) -> None:
    """Make sure that what waits for a metric will get it.

    Args:
        config: The run's.
        total_steps: Optimizer steps of the run, if they are known.

    Raises:
        ValueError: There are no validations, or they do not log the metric; the message names the
            nearest that they log.
    """
    for field, metric in _waiting(config):
        if not config.data.validation:
            raise ValueError(
                f"{field} waits for validations, and there are none: list corpora in "
                "data.validation"
            )
        interval = config.trainer.validate_every_n_steps
        if interval and total_steps is not None and interval > total_steps:
            raise ValueError(
                f"{field} waits for validations, and there are none in {total_steps} steps: "
                f"trainer.validate_every_n_steps is {interval}; lower it"
            )
        # The loss is of all validation corpora together: one test split among them is enough.
        tested = [str(corpus) for corpus in config.data.validation if is_test_split(corpus)]
        if metric == LOSS and tested:
            raise ValueError(
                f"{field} is {metric!r}, of a test split ({'; '.join(tested)}): a test that has "
                "chosen is no test any more; name a validation split in data.validation"
            )
        known = sorted(validation_metrics(config))
        if metric not in known:
            if f"test{metric.removeprefix('val')}" in known:
                raise ValueError(
                    f"{field} is {metric!r}, but that corpus is a test split, and a test that has "
                    "chosen is no test any more: list it with its validation split, such as split: "
                    f"val, in data.benchmark, or say {field}=test{metric.removeprefix('val')}"
                )
            # With a cutoff of 0 there always is one.
            nearest = difflib.get_close_matches(metric, known, 1, cutoff=0.0)[0]
            raise ValueError(
                f"{field} is {metric!r}, which no validation of this run logs; did you mean "
                f"{nearest}? It logs {', '.join(known)}"
                + ("" if config.evaluation.every_n_steps is not None else _HINT)
            )


_HINT = " (and accuracies with evaluation.every_n_steps=0 and corpora in data.benchmark)"


def validation_metrics(config: ExperimentConfig) -> set[str]:
    """Names of what the validations of a run log; opens the benchmark corpora if they are asked."""
    names = {LOSS}
    if config.evaluation.every_n_steps is not None:
        from callbacks.benchmark_evaluation import accuracy_name  # brings all of evaluation along

        corpora = open_corpora(config.data.benchmark, config.data.max_malformed_fraction).corpora
        tested = tested_corpora(config.data)
        names |= {accuracy_name(corpus[0].corpus, tested) for corpus in corpora}
    return names


def tested_corpora(data: DataConfig) -> frozenset[str]:
    """Names of the benchmark corpora of which questions are of a test split."""
    return frozenset(corpus.corpus for corpus in data.benchmark if is_test_split(corpus))


def _waiting(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    """Fields that name a metric which is waited for, and the metric."""
    trainer = config.trainer
    if trainer.keep_best or trainer.early_stopping_patience is not None:
        yield "trainer.monitor", trainer.monitor
    for number, thaw in enumerate(config.freeze_schedule):
        if thaw.when_metric:
            yield f"freeze_schedule[{number}].when_metric", thaw.when_metric
