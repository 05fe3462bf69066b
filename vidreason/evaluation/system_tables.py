"""Tables, notes and records of a comparison of systems (:mod:`.system_comparison`)."""

from dataclasses import replace
from typing import Any

from vidreason.evaluation.cells import Cell
from vidreason.evaluation.comparison import Run
from vidreason.evaluation.items import Column
from vidreason.evaluation.manifest import MUST_AGREE, manifest_differences
from vidreason.evaluation.protocols import ACCURACY, ALL
from vidreason.evaluation.system_comparison import SystemComparison, Systems
from vidreason.evaluation.tables import (
    CHANCE,
    NOT_APPLICABLE,
    Table,
    none_for_nan,
    p_value_text,
    seeds_text,
    value_text,
)


def system_tables(comparison: SystemComparison) -> list[Table]:
    """Return the scores, and the differences to the first system with their p-values."""
    header = [_column_text(column, comparison) for column in comparison.columns]
    rows = {_row_text(title, comparison): cells for title, cells in comparison.cells.items()}
    (first, _), *others = rows.items()
    scores = [
        (
            title,
            *(
                seeds_text(cells[column]) if column in cells else NOT_APPLICABLE
                for column in comparison.columns
            ),
        )
        for title, cells in rows.items()
    ]
    if comparison.chances:
        chances = [value_text(comparison.chances.get(column)) for column in comparison.columns]
        scores.append((CHANCE, *chances))
    # The first system has no difference to itself.
    differences = [
        (title, *(_difference_text(cells.get(column)) for column in comparison.columns))
        for title, cells in others
    ]
    return [
        Table(
            "Scores in %, mean over seeds, 95% interval over videos (standard deviation over "
            "seeds)",
            ("system", *header),
            tuple(scores),
        ),
        Table(
            f"Differences to {first} in points, 95% interval over videos; p over seeds and "
            "videos, or over videos alone where a system has one seed; corrected by Holm over all "
            f"{comparison.num_tests} tests of this table",
            ("system", *header),
            tuple(differences),
        ),
    ]


def system_notes(systems: Systems) -> list[str]:
    """Say where systems were asked otherwise than the first, and what is not known of them."""
    first = next(iter(systems.values()))[0]
    notes = []
    for title, runs in systems.items():
        differing = sorted({field for run in runs for field in _asked_otherwise(first, run)})
        if differing:
            notes.append(
                f"{title}: not asked as {first.name} in {', '.join(differing)}; "
                "`evaluate compare` says how"
            )
        if any(run.manifest is None for run in runs):
            notes.append(f"{title}: its file does not say what its answers were made with")
    return notes


def system_records(comparison: SystemComparison) -> list[dict[str, Any]]:
    """Return all numbers as plain rows for JSON: fractions, missing bounds are None."""
    return [
        _record(title, cell) for title, cells in comparison.cells.items() for cell in cells.values()
    ]


def _asked_otherwise(first: Run, run: Run) -> list[str]:
    """Return the fields of :data:`MUST_AGREE` that differ on the corpora that both answer."""
    if first.manifest is None or run.manifest is None:
        return []
    shared = first.manifest.questions.keys() & run.manifest.questions.keys()
    # Of the corpora that both answer: one that a run lacks is no difference in how it was asked.
    a, b = (
        replace(
            manifest,
            questions={name: of for name, of in manifest.questions.items() if name in shared},
            prompts={name: of for name, of in manifest.prompts.items() if name in shared},
        )
        for manifest in (first.manifest, run.manifest)
    )
    differences = manifest_differences(a, b)
    return [name for name in (*MUST_AGREE, "incomplete") if name in differences]


def _record(title: str, cell: Cell) -> dict[str, Any]:
    record: dict[str, Any] = {
        "system": title,
        "corpus": cell.corpus,
        "group": cell.group,
        "measure": cell.measure,
        "num_questions": cell.num_items,
        "num_videos": cell.num_videos,
        "num_invalid": cell.num_invalid,
        "score": cell.score.mean,
        "low": none_for_nan(cell.score.low),
        "high": none_for_nan(cell.score.high),
        "seed_scores": list(cell.seed_scores),
    }
    if cell.difference is not None:
        record |= {
            "difference": cell.difference.mean,
            "difference_low": none_for_nan(cell.difference.low),
            "difference_high": none_for_nan(cell.difference.high),
            "seed_differences": list(cell.seed_differences),
            "p_over_seeds": cell.test is None,
            "p_value": cell.p_value,
            "p_value_holm": cell.p_value_holm,
        }
    return record


def _row_text(title: str, comparison: SystemComparison) -> str:
    number = comparison.num_seeds[title]
    return title if number == 1 else f"{title} ({number} seeds)"


def _column_text(column: Column, comparison: SystemComparison) -> str:
    cells = [cells[column] for cells in comparison.cells.values() if column in cells]
    corpus, group = column
    if not cells:
        return f"{corpus} {group}"
    # The measure, where neither the column's name nor the title says it.
    measure = "" if cells[0].measure in (ACCURACY, group) else f", {cells[0].measure}"
    name = corpus if group == ALL else f"{corpus} {group}"
    return f"{name}{measure} (n={cells[0].num_items})"


def _difference_text(cell: Cell | None) -> str:
    if cell is None:
        return NOT_APPLICABLE
    if cell.difference is None:  # the first system cannot answer it
        return value_text(None)
    p_value = p_value_text(cell.p_value_holm)
    return f"{value_text(cell.difference, sign='+')}, p {p_value}"
