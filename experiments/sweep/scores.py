"""Numbers of a sweep: each trial's score, and how far it is from the best one's.

They go the way of all numbers, from predictions to items to cells. A trial is one training with one
seed, so intervals and p-values say what other questions might give, and nothing of other seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.jobs import Job, is_finished
from experiments.kept_runs import predictions_file, read_run
from experiments.sweep.config import SweepConfig
from experiments.sweep.trials import Trial
from vidreason.evaluation.cells import Cell, make_cell, run_differences
from vidreason.evaluation.comparison import Run
from vidreason.evaluation.items import EVERYTHING, Column, Item, Items, mean_of_corpora, run_items
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.scoreboard import scoring_protocols

SIGNIFICANT = 0.05
"""A trial whose Holm-corrected p is at least this is within noise of the best one."""


@dataclass(frozen=True, kw_only=True)
class ScoredTrial:
    """A trial with what is known of it."""

    trial: Trial
    cell: Cell | None = None
    """Its score; None without predictions. All but the best one's hold the paired difference, the
    best minus this trial, and its p-value."""
    missing: str = ""
    """Reason why it has no score."""

    @property
    def verdict(self) -> str:
        """``chosen``, ``within noise``, ``worse``, or what is missing."""
        if self.cell is None:
            return self.missing
        if self.cell.p_value_holm is None:
            return "chosen"
        return "within noise" if self.cell.p_value_holm >= SIGNIFICANT else "worse"


@dataclass(frozen=True, kw_only=True)
class SweepScores:
    """All trials, the best first, then those without a score."""

    scored: tuple[ScoredTrial, ...]
    corpora: tuple[str, ...]
    """Corpora that the score is the mean over."""
    unscored: tuple[str, ...]
    """Corpora that were answered, but have no references to score by."""
    incomplete: dict[str, str]
    """Corpora of which questions could not be read, and how many were."""

    @property
    def chosen(self) -> ScoredTrial | None:
        """The best trial; None if no trial has a score."""
        first = self.scored[0]
        return None if first.cell is None else first


def trial_accuracy(config: SweepConfig, trial: Trial) -> float:
    """Return the score of a trial alone, a fraction; NaN if it has none.

    Raises:
        ValueError: As :func:`score_trials`.
    """
    chosen = score_trials(config, [trial]).chosen
    return math.nan if chosen is None or chosen.cell is None else chosen.cell.score.mean


def score_trials(config: SweepConfig, trials: Sequence[Trial]) -> SweepScores:
    """Score all trials, and compare each with the best.

    Raises:
        ValueError: Trials answer different questions, or there is no corpus to score them by.
    """
    runs = {
        str(number): kept_run(trial.evaluation)
        for number, trial in enumerate(trials)
        if not _missing(trial.evaluation)
    }
    if not runs:
        without = tuple(ScoredTrial(trial=t, missing=_missing(t.evaluation)) for t in trials)
        return SweepScores(scored=without, corpora=(), unscored=(), incomplete={})
    evaluation = trials[0].evaluation.config.evaluation
    items = run_items(
        {name: run.predictions for name, run in runs.items()}, scoring_protocols(evaluation)
    )
    column, of_column = _decisive_items(config, items)
    # The first of equal ones is the best; its cell has no difference.
    cells = {name: make_cell(column, [of_run]) for name, of_run in of_column.items()}
    best = max(cells, key=lambda name: cells[name].score.mean)
    by_column: dict[str, Items] = {name: {column: of_run} for name, of_run in of_column.items()}
    cells |= run_differences(by_column, column, best)
    scored = [
        ScoredTrial(trial=trial, cell=cells.get(str(number)), missing=_missing(trial.evaluation))
        for number, trial in enumerate(trials)
    ]
    # Stable, so of equal ones the first is the best here, too.
    scored.sort(key=_rank)
    answered = {row.corpus for run in runs.values() for row in run.predictions}
    known = {corpus for of_run in items.values() for corpus, group in of_run if group == ALL}
    return SweepScores(
        scored=tuple(scored),
        corpora=(config.corpus,) if config.corpus else tuple(sorted(known)),
        unscored=tuple(sorted(answered - known)),
        incomplete=dict(next(iter(runs.values())).incomplete),
    )


def kept_run(evaluation: Job) -> Run:
    """The predictions of a finished evaluation."""
    return read_run(predictions_file(evaluation.config, "none"), evaluation.title)


def _missing(evaluation: Job) -> str:
    if not is_finished(evaluation):
        return "not finished"
    path = predictions_file(evaluation.config, "none")
    return "" if path.is_file() else f"its predictions are gone: {path}"


def _decisive_items(
    config: SweepConfig, items: dict[str, Items]
) -> tuple[Column, dict[str, list[Item]]]:
    """The items of each run that decide: of one corpus, or of all, which weigh the same."""
    column = (config.corpus, ALL) if config.corpus else EVERYTHING
    of_column = {
        name: of_run.get(column, []) if config.corpus else mean_of_corpora(of_run)
        for name, of_run in items.items()
    }
    if not all(of_column.values()):
        whose = repr(config.corpus) if config.corpus else "a corpus"
        raise ValueError(
            f"the trials cannot be scored on {whose}: its questions have no references, or the "
            "model cannot answer them as evaluation asks; name another corpus that decides"
        )
    return column, of_column


def _rank(scored: ScoredTrial) -> float:
    """Best first, then those without a score."""
    return math.inf if scored.cell is None else -scored.cell.score.mean
