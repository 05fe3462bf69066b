"""Calibration of all runs: each corpus' confidences by kind, as they are and at one temperature.

The temperature is fitted on the full model's answers to validation questions. Runs under a control
have the same one, for they are the same model that sees less.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean
from typing import Any, NamedTuple

from vidreason.evaluation.confidence.confidences import (
    Confidences,
    choice_confidences,
    event_confidences,
    next_event_confidences,
)
from vidreason.evaluation.confidence.scores import (
    ConfidenceScores,
    confidence_rows,
    confidence_scores,
    confidence_tables,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit, fit_temperature
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.tables import NOT_APPLICABLE, Table

Runs = Mapping[str, Sequence[BenchmarkPrediction]]

AS_IT_IS, FITTED = "as it is", "at the fitted temperature"
_CONFIDENCES: dict[str, Callable[..., Confidences]] = {
    "confidence of choices": choice_confidences,
    "printed confidence of predicted events": event_confidences,
    "computed probability of the next event": next_event_confidences,
}


class Calibration(NamedTuple):
    """One kind of confidence on one corpus."""

    title: str
    by_run: dict[str, dict[str, ConfidenceScores]]
    """Scores of each run that has such confidences, as it is and, if there is one, at the fitted
    temperature."""
    fit: TemperatureFit | None
    num_validation: int
    """Validation answers that there were to fit it on."""

    @property
    def notes(self) -> list[str]:
        """Why something is n/a: the order of confidences, or a temperature with validation rows."""
        return [*self._unranked(), *self._unfitted()]

    def _unranked(self) -> list[str]:
        """Runs of which no pair of a right and a wrong answer is there to be ranked."""
        unranked = [
            run for run, by_name in self.by_run.items() if isnan(by_name[AS_IT_IS]["auroc"].mean)
        ]
        if not unranked:
            return []
        return [
            f"{self.title}: AUROC {NOT_APPLICABLE} of {', '.join(unranked)}, because all answers "
            "are right or all are wrong: it takes some of each"
        ]

    def _unfitted(self) -> list[str]:
        if self.fit is not None or not self.num_validation:
            return []
        return [
            f"{self.title}: {NOT_APPLICABLE} {FITTED}, because of {self.num_validation} validation "
            "answers none is wrong, or they rank no better than chance: list more in "
            "data.validation, or raise evaluation.num_calibration_questions"
        ]

    def tables(self) -> tuple[Table, Table]:
        """Two tables with a row for each run's confidences."""
        records = {
            f"{run}, {name}": scores
            for run, by_name in self.by_run.items()
            for name, scores in by_name.items()
        }
        return confidence_tables(self.title, records, self.fit)

    def as_json(self, full: str) -> dict[str, Any]:
        """The temperature, the scores of the run ``full``, and those of the others by run."""
        others = {run: by_name for run, by_name in self.by_run.items() if run != full}
        return {
            **confidence_rows(self.by_run.get(full, {}), self.fit),
            "other_runs": {
                run: confidence_rows(by_name, None)["scores"] for run, by_name in others.items()
            },
        }


def run_calibrations(
    runs: Runs, validation: Sequence[BenchmarkPrediction] = ()
) -> Iterator[Calibration]:
    """Calibrate each corpus' choices, printed confidences and computed probabilities.

    Args:
        runs: Predictions by name.
        validation: The full model's on other questions, which temperatures are fitted on.
    """
    others = held_out(runs, validation)
    for corpus in dict.fromkeys(row.corpus for rows in runs.values() for row in rows):
        for kind, confidences_of in _CONFIDENCES.items():
            by_run = {name: _of_corpus(rows, corpus) for name, rows in runs.items()}
            known = {name: rows for name, rows in by_run.items() if confidences_of(rows).values}
            # Most corpora have one of the kinds; some have none.
            if not known:
                continue
            # Without validation rows, the confidences are scored as they are.
            on = confidences_of(_of_corpus(others, corpus))
            fit = fitted_temperature(on)
            scores = {}
            for name, rows in known.items():
                scores[name] = {AS_IT_IS: confidence_scores(confidences_of(rows))}
                if fit is not None:
                    scores[name][FITTED] = confidence_scores(confidences_of(rows, fit))
            yield Calibration(f"{corpus}: {kind}", scores, fit, len(on.logits))


def fitted_temperature(confidences: Confidences) -> TemperatureFit | None:
    """Fit the temperature of validation answers, and the share of them whose outcome is found.

    None where there are none to fit one on, and where they tell of none, as a few easily do: no
    answer is wrong, or their scores rank no better than chance.
    """
    if not confidences.logits:
        return None
    fit = fit_temperature(confidences.logits, confidences.outcomes)
    if fit.is_at_limit:
        return None
    # Share of the answers whose outcome is among what was scored.
    listed = fit.num_questions / (fit.num_questions + confidences.num_unlisted)
    covered = fmean(confidences.covered) if confidences.covered else 0.0
    return replace(fit, listed=listed, covered=covered or None)


def held_out(runs: Runs, validation: Sequence[BenchmarkPrediction]) -> list[BenchmarkPrediction]:
    """Validation rows on which something may be fitted: none that a run is judged by."""
    tested = {row.id for rows in runs.values() for row in rows}
    return [row for row in validation if row.id not in tested]


def _of_corpus(rows: Sequence[BenchmarkPrediction], corpus: str) -> list[BenchmarkPrediction]:
    return [row for row in rows if row.corpus == corpus]
