"""The demo's scores: the trained model beside what sees less, in ``evaluate``'s own tables.

Both corpora ask about the same test videos, so intervals over all questions draw videos with the
questions of both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from experiments.kept_runs import MAJORITY, ROW_NAMES
from vidreason.evaluation.cells import run_cells, run_differences
from vidreason.evaluation.config import Control
from vidreason.evaluation.items import (
    EVERYTHING,
    Column,
    chance_scores,
    run_items,
    with_everything,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.priors import fit_majority
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.tables import (
    CHANCE,
    Table,
    accuracy_table,
    none_for_nan,
    score_table,
    value_text,
)
from vidreason.example import Example

RESULTS_FILE = "results.json"
TABLE_FILE = "table.md"

FULL = "full model (stage 2)"
STAGE_1 = "stage 1 alone"
CONTROLS: tuple[Control, ...] = ("none", "blind", "random", "shuffled")
"""Controls under which the model of stage 2 is asked."""

_NEXTQA, _ACTIVITYNET = "nextqa", "activitynet_qa"
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
}
"""Readable names of the benchmarks' own groups, for what the microworld asks in them."""

Runs = Mapping[str, Sequence[BenchmarkPrediction]]


def score_demo(runs: Runs, train: Sequence[Example]) -> dict[str, Any]:
    """Score all runs, which answer the same questions, and chance.

    Args:
        runs: Predictions by name of the row; ``FULL`` is one of them.
        train: The training examples; chance draws open answers from theirs.

    Returns:
        What ``results.json`` holds: the ``tables``; and of all questions ``num_questions``,
        ``num_videos`` and ``bars``, ``[name, score, low, high]`` as fractions, where bounds that do
        not exist are None.
    """
    items = {name: with_everything(of_run) for name, of_run in run_items(runs).items()}
    cells = {name: run_cells(of_run) for name, of_run in items.items()}
    columns = list(items[FULL])
    every = cells[FULL][EVERYTHING]
    chances = chance_scores(runs[FULL], known_answers=fit_majority(train).texts)
    differences = {
        name: value_text(cell.difference, sign="+")
        for name, cell in run_differences(items, EVERYTHING, FULL).items()
    }
    overall = score_table(
        f"Accuracy in % on held-out questions about {every.num_videos} held-out videos, [95% "
        "interval over videos]",
        cells,
        [column for column in columns if column[1] == ALL],
        further=("full model minus this, points", differences),
        chances=chances,
        names=NAMES,
    )
    of_corpora = [
        accuracy_table(corpus, cells, columns, chances=chances, names=NAMES)
        for corpus in dict.fromkeys(corpus for corpus, _ in columns if corpus != ALL)
    ]
    bars = [[name, *map(none_for_nan, of_run[EVERYTHING].score)] for name, of_run in cells.items()]
    if EVERYTHING in chances:
        bars.append([CHANCE, chances[EVERYTHING], None, None])
    return {
        "num_questions": every.num_items,
        "num_videos": every.num_videos,
        "bars": bars,
        "tables": [astuple(table) for table in (overall, *of_corpora)],
    }


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``results.json`` and ``table.md``."""
    tables = result_tables(results)
    (folder / TABLE_FILE).write_text("\n\n".join(table.to_markdown() for table in tables) + "\n")
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")


def read_results(folder: Path) -> dict[str, Any]:
    """Read ``results.json``."""
    results: dict[str, Any] = json.loads((folder / RESULTS_FILE).read_text())
    return results


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """All questions and both corpora; then, for each corpus, its types of questions."""
    return [
        Table(title, tuple(header), tuple(map(tuple, rows)))
        for title, header, rows in results["tables"]
    ]


def ordered_runs(
    stage2: Mapping[str, Sequence[BenchmarkPrediction]],
    stage1: Mapping[str, Sequence[BenchmarkPrediction]],
) -> dict[str, Sequence[BenchmarkPrediction]]:
    """The rows of the table in their order, from what ``evaluate`` gives for the two models."""
    rows = {FULL: stage2[ROW_NAMES["none"]], STAGE_1: stage1[ROW_NAMES["none"]]}
    return rows | {
        name: stage2[name] for name in (*(ROW_NAMES[control] for control in CONTROLS[1:]), MAJORITY)
    }
