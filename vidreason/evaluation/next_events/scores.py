"""All scores of computed distributions over next events, by corpus, as tables and for JSON.

Calibration errors and proper scores are not among them: those are given of all confidences alike
(:mod:`vidreason.evaluation.confidence.run_calibration`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isinf
from typing import Any

from vidreason.evaluation.cells import run_cells, run_differences
from vidreason.evaluation.confidence.confidences import next_event_confidences
from vidreason.evaluation.confidence.conformal import LEVEL, MIN_QUESTIONS, ConformalFit
from vidreason.evaluation.confidence.event_distributions import asks_for_next_event, has_futures
from vidreason.evaluation.confidence.run_calibration import (
    AS_IT_IS,
    FITTED,
    Runs,
    fitted_temperature,
    held_out,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.next_events import distributions, event_sets
from vidreason.evaluation.next_events.distributions import distribution_scores, truth_rows
from vidreason.evaluation.next_events.event_sets import fit_sets, set_scores
from vidreason.evaluation.next_events.evidence import evidence_falls, evidence_table
from vidreason.evaluation.next_events.hits import computed_hits
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.tables import (
    NOT_APPLICABLE,
    Table,
    accuracy_table,
    difference_rows,
    difference_table,
    record_row,
    record_table,
    score_rows,
)

TRUTH = "true distribution"
"""Row of the true distribution itself: what can be reached at best."""


@dataclass(frozen=True, kw_only=True)
class NextEventScores:
    """Scores of all runs on one corpus."""

    tables: tuple[Table, ...]
    metrics: dict[str, Any]
    """Values such as JSON holds, None where a number is not defined."""
    notes: tuple[str, ...] = ()
    """Numbers that are not there, and why."""


def next_event_scores(
    runs: Runs,
    *,
    full: str,
    validation: Sequence[BenchmarkPrediction] = (),
    evidence: Sequence[str] = (),
) -> dict[str, NextEventScores]:
    """Score computed distributions by corpus; those for which no run computes any are left out.

    Args:
        runs: Predictions by name, of the same questions.
        full: The run that the others are compared with, where it is there.
        validation: Its predictions on other questions, which a temperature and sets are fitted on.
        evidence: Names of runs that see less and less, from the full one on; of those that are
            there.
    """
    others = held_out(runs, validation)
    scores = {}
    for corpus in dict.fromkeys(row.corpus for rows in runs.values() for row in rows):
        questions = {name: _asking(rows, corpus) for name, rows in runs.items()}
        questions = {name: rows for name, rows in questions.items() if rows}
        if any(has_futures(row) for rows in questions.values() for row in rows):
            scores[corpus] = _scores(corpus, questions, full, _asking(others, corpus), evidence)
    return scores


def _asking(rows: Sequence[BenchmarkPrediction], corpus: str) -> list[BenchmarkPrediction]:
    return [row for row in rows if row.corpus == corpus and asks_for_next_event(row)]


def _scores(
    corpus: str,
    runs: dict[str, list[BenchmarkPrediction]],
    full: str,
    validation: list[BenchmarkPrediction],
    evidence: Sequence[str],
) -> NextEventScores:
    # Hits, all and by kind, and the full run's lead over the others.
    items = {name: computed_hits(rows) for name, rows in runs.items()}
    cells = {name: run_cells(of_run) for name, of_run in items.items()}
    # Runs that have any have the same ones.
    columns = next(list(of_run) for of_run in items.values() if of_run)
    tables = [accuracy_table(corpus, cells, columns)]
    compared = run_differences(items, (corpus, ALL), full)
    if compared:
        tables.append(difference_table(full, compared))
    # Distributions beside outcomes and the true ones, as they are and at the temperature.
    scalings: dict[str, TemperatureFit | None] = {AS_IT_IS: None}
    if fitted := fitted_temperature(next_event_confidences(validation)):
        scalings[FITTED] = fitted
    answering = {name: rows for name, rows in runs.items() if items[name]}
    described = {
        f"{name}, {kind}": distribution_scores(rows, fit)
        for name, rows in answering.items()
        for kind, fit in scalings.items()
    }
    if truth := truth_rows(next(iter(runs.values()))):
        described[TRUTH] = distribution_scores(truth, None)
    tables.append(_distribution_table(corpus, described))
    # Conformal sets of all runs, fitted on the full run's validation answers.
    fits = fit_sets(validation)
    sets = {name: set_scores(rows, fits) for name, rows in answering.items() if fits}
    if sets:
        tables.append(_set_table(corpus, fits, sets))
    # Probabilities must fall as evidence is taken away.
    # At the fitted temperature where there is one.
    kind, scaling = list(scalings.items())[-1]
    seeing_less = {name: runs[name] for name in evidence if name in runs}
    falls = evidence_falls(seeing_less, scaling)
    if len(falls) > 1 and any(falls.values()):
        tables.append(evidence_table(corpus, kind, falls))
    return NextEventScores(
        tables=tuple(tables),
        notes=_few_for_sets(corpus, validation),
        metrics={
            "hits": {name: score_rows(of_run.values()) for name, of_run in cells.items() if of_run},
            "differences": difference_rows(full, compared) if compared else [],
            "distributions": {name: record_row(record) for name, record in described.items()},
            "conformal_fits": {rule: _fit_row(one) for rule, one in fits.items()},
            "conformal_sets": {name: record_row(record) for name, record in sets.items()},
            "evidence": {name: record_row(record) for name, record in falls.items() if record},
        },
    )


def _distribution_table(corpus: str, described: dict[str, dict[str, Any]]) -> Table:
    first = next(iter(described.values()))
    return record_table(
        f"{corpus}: computed distributions over next events, without one {first['num_without']}, "
        f"95% interval over {first['num_videos']} videos",
        "probabilities",
        described,
        distributions.FIELDS,
    )


def _set_table(
    corpus: str, fits: dict[str, ConformalFit], sets: dict[str, dict[str, Any]]
) -> Table:
    number = fits[event_sets.DRAWN].num_questions
    return record_table(
        f"{corpus}: sets of next events that hold the one that comes in {100 * LEVEL:.0f}%, fitted "
        f"on {number} validation answers, 95% interval over "
        f"{next(iter(sets.values()))['num_videos']} videos",
        "run",
        sets,
        event_sets.FIELDS,
    )


def _few_for_sets(corpus: str, validation: Sequence[BenchmarkPrediction]) -> tuple[str, ...]:
    number = sum(map(has_futures, validation))
    if not 0 < number < MIN_QUESTIONS:
        return ()
    return (
        f"{corpus}: sets of next events are {NOT_APPLICABLE}, because of {number} validation "
        f"answers each would hold all events: it takes at least {MIN_QUESTIONS} (data.validation, "
        "evaluation.num_calibration_questions)",
    )


def _fit_row(fit: ConformalFit) -> dict[str, Any]:
    return asdict(fit) | {"quantile": None if isinf(fit.quantile) else fit.quantile}
