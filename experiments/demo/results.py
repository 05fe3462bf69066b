"""The demo's accuracies: the trained model beside what sees less, overall and by type of question.

Both corpora ask about the same test videos, so the bootstrap draws videos with all their questions.
"""

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from experiments.kept_runs import MAJORITY, ROW_NAMES
from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.controls import Control
from vidreason.evaluation.metrics import question_groups
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions
from vidreason.evaluation.report import Table
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    paired_difference,
)
from vidreason.example import Example

RESULTS_FILE = "results.json"
TABLE_FILE = "table.md"

FULL = "full model (stage 2)"
STAGE_1 = "stage 1 alone"
CHANCE = "chance"
CONTROLS: tuple[Control, ...] = ("none", "blind", "random", "shuffled")
"""What the model of stage 2 is shown."""

CORPORA = {"nextqa": "NExT-QA form (5 options)", "activitynet_qa": "ActivityNet-QA form (open)"}
TYPES = {
    "nextqa": {
        "CW": "why",
        "CH": "how",
        "TN": "before, after",
        "TC": "meanwhile",
        "DC": "how many",
        "DL": "where",
        "DO": "which object",
    },
    "activitynet_qa": {
        "motion": "motion",
        "spatial": "spatial",
        "temporal": "order",
        "yesno": "yes or no",
        "color": "color",
        "object": "shape",
        "location": "came from",
        "number": "number",
        "other": "what is next",
    },
}
"""Readable names of the benchmarks' own groups, for what the microworld asks in them."""

Runs = Mapping[str, Sequence[BenchmarkPrediction]]


def score_runs(runs: Runs, train: Sequence[Example]) -> dict[str, Any]:
    """Score all runs, which answer the same questions, and chance.

    Args:
        runs: Predictions by name of the row; ``FULL`` is one of them.
        train: The training examples; what chance draws open answers from.

    Returns:
        What ``results.json`` holds: ``groups`` with the sizes of each group of questions; ``rows``
        with ``[accuracy, low, high]`` as fractions for each row and group; ``differences`` of
        ``FULL`` minus each other row over all questions. Bounds that do not exist are None.
    """
    full = runs[FULL]
    ids = [prediction.id for prediction in full]
    flags = {
        name: [float(bool(row.correct)) for row in align_predictions(predictions, ids)]
        for name, predictions in runs.items()
    }
    members = _members(full)
    videos = [prediction.video_id for prediction in full]
    chances = _chances(full, train)

    def interval(values: Sequence[float], group: str) -> list[float | None]:
        places = members[group]
        return _bounds(bootstrap_interval([values[i] for i in places], [videos[i] for i in places]))

    rows = {
        name: {group: interval(values, group) for group in members}
        for name, values in flags.items()
    }
    rows[CHANCE] = {
        group: [sum(chances[i] for i in places) / len(places), None, None]
        for group, places in members.items()
    }
    return {
        "groups": {
            group: {
                "num_questions": len(places),
                "num_videos": len({videos[i] for i in places}),
            }
            for group, places in members.items()
        },
        "rows": rows,
        "differences": {
            name: _bounds(paired_difference(flags[FULL], values, videos))
            for name, values in flags.items()
            if name != FULL
        },
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
    groups, rows = results["groups"], results["rows"]

    def size(group: str) -> str:
        return f"n={groups[group]['num_questions']}"

    overall = [group for group in ("all", *CORPORA) if group in groups]
    names = {"all": "all questions", **CORPORA}
    tables = [
        Table(
            f"Accuracy in % on held-out questions about {groups['all']['num_videos']} held-out "
            "videos, [95% interval over videos]",
            ("", *(f"{names[g]}, {size(g)}" for g in overall), "full model minus this, points"),
            tuple(
                (
                    name,
                    *(_percent(row[group], 1) for group in overall),
                    _percent(results["differences"].get(name), 1, "+"),
                )
                for name, row in rows.items()
            ),
        )
    ]
    for corpus, title in CORPORA.items():
        own = {
            f"{corpus}/{key}": name
            for key, name in TYPES[corpus].items()
            if f"{corpus}/{key}" in groups
        }
        if own:
            tables.append(
                Table(
                    f"{title}: accuracy in % by type of question, [95% interval over videos]",
                    ("", *(f"{name}, {size(group)}" for group, name in own.items())),
                    tuple(
                        (name, *(_percent(row[group], 0) for group in own))
                        for name, row in rows.items()
                    ),
                )
            )
    return tables


def ordered_runs(
    stage2: Mapping[str, Sequence[BenchmarkPrediction]],
    stage1: Mapping[str, Sequence[BenchmarkPrediction]],
) -> dict[str, Sequence[BenchmarkPrediction]]:
    """The rows of the table in their order, from what ``evaluate`` gives for the two models."""
    rows = {FULL: stage2[ROW_NAMES["none"]], STAGE_1: stage1[ROW_NAMES["none"]]}
    return rows | {
        name: stage2[name] for name in (*(ROW_NAMES[control] for control in CONTROLS[1:]), MAJORITY)
    }


def _members(predictions: Sequence[BenchmarkPrediction]) -> dict[str, list[int]]:
    """Places of the questions of each group: ``all``, a corpus, or ``<corpus>/<type>``."""
    members: dict[str, list[int]] = {"all": list(range(len(predictions)))}
    for place, prediction in enumerate(predictions):
        corpus = prediction.corpus
        narrowest = question_groups(corpus, prediction.question_type)[-1]
        for group in (corpus, f"{corpus}/{narrowest}"):
            members.setdefault(group, []).append(place)
    return members


def _chances(predictions: Sequence[BenchmarkPrediction], train: Sequence[Example]) -> list[float]:
    """How probably a random option is right, or a random one of the type's training answers."""
    known: dict[tuple[str, str], set[str]] = {}
    for example in train:
        answers = known.setdefault((example.corpus, example.question_type), set())
        answers.update(map(normalise_answer, example.answers))
    chances = []
    for row in predictions:
        if row.options:
            chances.append(1 / len(row.options))
            continue
        assert isinstance(row.reference, tuple)
        answers = known.get((row.corpus, row.question_type), set())
        right = answers & {normalise_answer(str(answer)) for answer in row.reference}
        chances.append(len(right) / len(answers) if answers else 0.0)
    return chances


def _bounds(interval: Interval) -> list[float | None]:
    return [None if isnan(value) else value for value in interval]


def _percent(bounds: Sequence[float | None] | None, decimals: int, sign: str = "") -> str:
    """``61.2 [55.0, 67.3]``; a dash without a value, no bounds where there are none."""
    mean, low, high = bounds or (None, None, None)
    if mean is None:
        return "-"
    text = f"{100 * mean:{sign}.{decimals}f}"
    if low is None or high is None:
        return text
    return f"{text} [{100 * low:{sign}.{decimals}f}, {100 * high:{sign}.{decimals}f}]"
