"""Metrics that a run waits for must be logged by its validations; said before it trains."""

import difflib
from collections.abc import Iterator

from data_modules.corpus_index import open_corpora
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
        known = sorted(validation_metrics(config))
        if metric not in known:
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
        corpora = open_corpora(config.data.benchmark, config.data.max_malformed_fraction).corpora
        names |= {f"val/{corpus[0].corpus}_accuracy" for corpus in corpora}
    return names


def _waiting(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    """Fields that name a metric which is waited for, and the metric."""
    trainer = config.trainer
    if trainer.keep_best or trainer.early_stopping_patience is not None:
        yield "trainer.monitor", trainer.monitor
    for number, thaw in enumerate(config.freeze_schedule):
        if thaw.when_metric:
            yield f"freeze_schedule[{number}].when_metric", thaw.when_metric
