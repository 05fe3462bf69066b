"""The demo's scores: the trained model beside what sees less, in ``evaluate``'s own tables.

All corpora ask about the same test videos, so intervals over all questions draw videos with the
questions of all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_modules.corpus_index import open_corpora
from experiments.demo.references import EXTRAPOLATION, references_files
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import LESS_AND_LESS, MAJORITY, ROW_NAMES, predictions_file
from vidreason.evaluation.cells import Cell, run_cells, run_differences
from vidreason.evaluation.confidence.run_calibration import run_calibrations
from vidreason.evaluation.config import Control
from vidreason.evaluation.items import (
    EVERYTHING,
    Column,
    chance_scores,
    run_items,
    with_everything,
)
from vidreason.evaluation.next_events.scores import next_event_scores
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.priors import fit_majority
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.tables import Table, accuracy_table, score_table, value_text
from vidreason.example import Example

FULL = ROW_NAMES["none"]
STAGE_1 = "stage 1 alone"
CONTROLS: tuple[Control, ...] = (
    *("none", "half_frames", "single_frame", "shuffled_frames"),
    *("blind", "shuffled"),
)
"""Controls under which the model of stage 2 is asked."""

_NEXTQA, _ACTIVITYNET = "nextqa", "activitynet_qa"
NEXT_EVENT: Column = ("causal_vid_instruct", ALL)
NAMES: dict[Column, str] = {
    EVERYTHING: "all questions",
    (_NEXTQA, ALL): "NExT-QA form",
    (_NEXTQA, "CW"): "why",
    (_NEXTQA, "CH"): "how",
    (_NEXTQA, "TN"): "before, after",
    (_NEXTQA, "TC"): "meanwhile",
    (_NEXTQA, "DC"): "how many",
    (_NEXTQA, "DL"): "where",
    (_NEXTQA, "DO"): "which object",
    (_ACTIVITYNET, ALL): "ActivityNet-QA form",
    (_ACTIVITYNET, "temporal"): "order",
    (_ACTIVITYNET, "yesno"): "yes or no",
    (_ACTIVITYNET, "object"): "shape",
    (_ACTIVITYNET, "location"): "came from",
    (_ACTIVITYNET, "other"): "what is next",
    NEXT_EVENT: "next event",
    ("clevrer", ALL): "CLEVRER form",
    ("test_of_time", ALL): "Test of Time form",
    ("nextgqa", ALL): "NExT-GQA form",
    ("vcr", ALL): "VCR form",
}
"""Readable names of the benchmarks' own groups, for what the microworld asks in them."""

Runs = Mapping[str, Sequence[BenchmarkPrediction]]


@dataclass(frozen=True, kw_only=True)
class DemoResults:
    """The demo's runs with their scores and chance, in the order of the tables."""

    runs: Runs
    cells: Mapping[str, Mapping[Column, Cell]]
    chances: Mapping[Column, float]
    tables: Sequence[Table]
    """All questions and all corpora; then, for each corpus, its types of questions."""
    forecasts: Sequence[Table]
    """Printed confidences and computed probabilities of next events beside what came."""


def read_results(stage1: ExperimentConfig, stage2: ExperimentConfig) -> DemoResults:
    """Score the predictions that are kept of both stages."""
    # Tables have their rows in this order.
    files = {FULL: predictions_file(stage2, "none"), STAGE_1: predictions_file(stage1, "none")}
    files |= {ROW_NAMES[name]: predictions_file(stage2, name) for name in CONTROLS[1:]}
    files[MAJORITY] = predictions_file(stage2, "majority")
    files |= references_files(stage2)
    train = open_corpora(stage2.data.train, stage2.data.max_malformed_fraction)
    return score_demo({name: read_predictions(path) for name, path in files.items()}, train)


def summary(results: DemoResults) -> list[str]:
    """Return a sentence on all questions and one on next events: the model, and what sees less."""
    less = {
        ROW_NAMES["blind"]: "without its visual tokens",
        MAJORITY: "the most frequent answers",
        EXTRAPOLATION: "extrapolation of what is perceived",
    }
    sentences = []
    for column in (EVERYTHING, NEXT_EVENT):
        cell = results.cells[FULL].get(column)
        if cell is None:
            continue
        scores = {
            words: results.cells[name][column].score[0]
            for name, words in less.items()
            # The extrapolation predicts, and answers nothing else.
            if column in results.cells.get(name, {})
        }
        others = ", ".join(f"{words} {score:.1%}" for words, score in scores.items())
        sentences.append(
            f"{NAMES[column]}: {cell.score[0]:.1%} of {cell.num_items} about {cell.num_videos} "
            f"held-out videos are right ({others})"
        )
    return sentences


def score_demo(runs: Runs, train: Iterable[Example]) -> DemoResults:
    """Score all runs, which answer the same questions, and chance.

    Args:
        runs: Predictions by name of the row; ``FULL`` is one of them.
        train: The training examples; chance draws open answers from theirs.
    """
    items = {name: with_everything(of_run) for name, of_run in run_items(runs).items()}
    for of_run in items.values():
        # The references predict only: a mean over what they answer is not one over all questions.
        if any(column not in of_run for column in items[FULL]):
            of_run[EVERYTHING] = []
    cells = {name: run_cells(of_run) for name, of_run in items.items()}
    columns = list(items[FULL])
    chances = chance_scores(runs[FULL], known_answers=fit_majority(train).texts)
    differences = {
        name: value_text(cell.difference, sign="+")
        for name, cell in run_differences(items, EVERYTHING, FULL).items()
    }
    overall = score_table(
        f"Accuracy in % on held-out questions about {cells[FULL][EVERYTHING].num_videos} held-out "
        "videos, [95% interval over videos]",
        cells,
        # Whole corpora; their types of questions have tables of their own.
        [column for column in columns if column[1] == ALL],
        further=("full model minus this, points", differences),
        chances=chances,
        names=NAMES,
    )
    of_corpora = [
        accuracy_table(corpus, cells, columns, chances=chances, names=NAMES)
        for corpus in dict.fromkeys(corpus for corpus, _ in columns if corpus != ALL)
    ]
    return DemoResults(
        runs=runs,
        cells=cells,
        chances=chances,
        tables=(overall, *of_corpora),
        forecasts=_forecast_tables(runs),
    )


def _forecast_tables(runs: Runs) -> list[Table]:
    corpus, _ = NEXT_EVENT
    predictions = {
        name: [row for row in rows if row.corpus == corpus] for name, rows in runs.items()
    }
    evidence = [ROW_NAMES[control] for control in LESS_AND_LESS]
    scores = next_event_scores(predictions, full=FULL, evidence=evidence).values()
    return [
        *(table for each in run_calibrations(predictions) for table in each.tables()),
        *(table for of_corpus in scores for table in of_corpus.tables),
    ]
