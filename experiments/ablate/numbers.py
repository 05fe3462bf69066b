"""The numbers of a study: scores of its variants, and paired differences to the full system.

The p-value of a variant counts what other seeds might have given, too
(:mod:`vidreason.evaluation.statistics.seeds`); that of a control, which is the same models seeing
less, flips videos alone, and so does that of a study with one seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vidreason.evaluation.cells import Cell, make_cell, with_difference, with_holm
from vidreason.evaluation.items import Column, Items, scored_items, with_everything
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant with its predictions."""

    title: str
    seeds: Mapping[int, Sequence[BenchmarkPrediction]]
    """The predictions by seed, on the same questions. Differences are of the seeds that this row
    and the full system both have."""
    cost: str = ""
    """Training cost, such as ``3.1 CPU min``."""
    is_control: bool = False
    """True if it is the full system seeing less, which is no variant: its test is corrected with no
    others."""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """All numbers of a study."""

    rows: tuple[Row, ...]
    """The full system first."""
    columns: tuple[Column, ...]
    cells: Mapping[tuple[int, Column], Cell]
    """By number of the row, and column. Differences are to the full system: negative where the
    variant is worse."""


def compare(rows: Sequence[Row]) -> StudyResult:
    """Compare all rows with the first.

    Raises:
        ValueError: They do not answer the same questions, or have no seed in common with the first.
    """
    full = rows[0]
    first = next(iter(full.seeds.values()))
    # Corpora in alphabetical order.
    ids = [prediction.id for prediction in sorted(first, key=lambda prediction: prediction.corpus)]
    items = [
        {
            seed: with_everything(scored_items(align_predictions(predictions, ids)))
            for seed, predictions in row.seeds.items()
        }
        for row in rows
    ]
    for row in rows:
        if not row.seeds.keys() & full.seeds.keys():
            raise ValueError(
                f"{row.title!r} has the seeds {list(row.seeds)}, and {full.title!r} has none of "
                "them: there is nothing to compare"
            )
    # Those of the full system: all rows answer its questions.
    columns = tuple(next(iter(items[0].values())))
    cells: dict[tuple[int, Column], Cell] = {}
    for column in columns:
        of_column = [
            _cell(column, items[0], of_row, row) for row, of_row in zip(rows, items, strict=True)
        ]
        # One family of tests a column: all variants; a control's test stands alone.
        variants = [number for number, row in enumerate(rows) if number and not row.is_control]
        corrected = dict(
            zip(variants, with_holm(of_column[number] for number in variants), strict=True)
        )
        for number, cell in enumerate(of_column):
            cells[number, column] = corrected.get(number, replace(cell, p_value_holm=cell.p_value))
    return StudyResult(rows=tuple(rows), columns=columns, cells=cells)


def _cell(
    column: Column, full: Mapping[int, Items], variant: Mapping[int, Items], row: Row
) -> Cell:
    cell = make_cell(column, [items[column] for items in variant.values()])
    if variant is full:
        return cell
    # The seeds that both have, in one order.
    shared = [seed for seed in variant if seed in full]
    return with_difference(
        cell,
        [variant[seed][column] for seed in shared],
        [full[seed][column] for seed in shared],
        over_seeds=not row.is_control,
    )
