"""Several systems on the same questions, each under one or more seeds, beside the first of them.

Scores are means over a system's seeds; their intervals draw whole videos. The p-value of a
difference of two systems with two seeds or more each counts what other seeds might have given
(:mod:`vidreason.evaluation.statistics.seeds`); with one of a single run it flips videos alone, and
speaks of these models. All p-values, of all systems and columns, are one family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidreason.evaluation.cells import Cell, make_cell, with_difference, with_holm
from vidreason.evaluation.comparison import Run, check_same_items
from vidreason.evaluation.items import Column, Items, chance_scores, run_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL, Protocol

Systems = Mapping[str, Sequence[Run]]
"""Runs by title, one a seed."""


@dataclass(frozen=True, kw_only=True)
class SystemComparison:
    """Cells of all systems."""

    num_seeds: Mapping[str, int]
    """By title; the first system is the one that the others are compared with."""
    columns: tuple[Column, ...]
    cells: Mapping[str, Mapping[Column, Cell]]
    """By title; a column that a system cannot answer is missing. Differences are to the first
    system: negative where the other is worse."""
    chances: Mapping[Column, float]
    """Scores of random options; a column without options is missing."""

    @property
    def num_tests(self) -> int:
        """Size of the family that p-values are corrected over."""
        return sum(
            cell.p_value is not None
            for of_system in self.cells.values()
            for cell in of_system.values()
        )


def compare_systems(
    systems: Systems, columns: Sequence[Column], protocols: Mapping[str, Protocol]
) -> SystemComparison:
    """Score all systems and compare them with the first.

    Args:
        systems: At least two. Whole corpora may be missing in a run, but no single question.
        columns: What is scored; empty for ``all`` of each corpus of the first system.
        protocols: How each corpus is scored; one that is not listed by accuracy.

    Raises:
        ValueError: Two runs were not asked the same questions of a corpus, seeds of one system are
            the same model or under different controls, or nothing has a column.
    """
    runs = [run for of_system in systems.values() for run in of_system]
    for of_system in systems.values():
        _check_seeds(of_system)
    # Whoever answers a corpus has to have been asked the same as the first that does.
    first_runs: dict[str, Run] = {}
    for run in runs:
        for corpus, part in _by_corpus(run).items():
            check_same_items(first_runs.setdefault(corpus, part), part)
    # All runs are graded in one go, for the groups are those of all; then they go back to their
    # systems.
    numbered = {str(number): run.predictions for number, run in enumerate(runs)}
    all_items = iter(run_items(numbered, protocols).values())
    items = {title: [next(all_items) for _ in of_system] for title, of_system in systems.items()}
    first = next(iter(items.values()))
    columns = columns or [column for column in first[0] if column[1] == ALL]
    _check_columns(columns, items)
    cells = {
        title: {
            # The first system has no difference to itself.
            column: _cell(column, seeds, () if seeds is first else first)
            for column in columns
            if _answers(seeds, column)
        }
        for title, seeds in items.items()
    }
    chances = chance_scores(
        [row for part in first_runs.values() for row in part.predictions], protocols
    )
    return SystemComparison(
        num_seeds={title: len(of_system) for title, of_system in systems.items()},
        columns=tuple(columns),
        cells=_corrected(cells),
        chances={column: chances[column] for column in columns if column in chances},
    )


def _check_seeds(runs: Sequence[Run]) -> None:
    known = [(run, run.manifest) for run in runs if run.manifest is not None]
    for number, (run, manifest) in enumerate(known):
        for other, earlier in known[:number]:
            if manifest.control != earlier.control:
                raise ValueError(
                    f"{other.name} and {run.name} are under different controls, "
                    f"{earlier.control!r} and {manifest.control!r}; give each a row of its own"
                )
            if manifest.model and manifest.model == earlier.model:
                raise ValueError(
                    f"{other.name} and {run.name} are answers of one and the same model; name "
                    "those of another seed, or leave one out"
                )


def _by_corpus(run: Run) -> dict[str, Run]:
    rows: dict[str, list[BenchmarkPrediction]] = {}
    for row in run.predictions:
        rows.setdefault(row.corpus, []).append(row)
    return {
        corpus: Run(name=run.name, predictions=of_corpus, manifest=None)  # rows alone are compared
        for corpus, of_corpus in rows.items()
    }


def _check_columns(columns: Sequence[Column], items: Mapping[str, Sequence[Items]]) -> None:
    known = {column for seeds in items.values() for one in seeds for column in one}
    for corpus, group in columns:
        if (corpus, group) not in known:
            groups = sorted(of for name, of in known if name == corpus)
            raise ValueError(
                f"columns.{corpus} has {group!r}, which no row has; "
                + (
                    f"its groups are {groups}"
                    if groups
                    else f"corpora are {sorted({c for c, _ in known})}"
                )
            )


def _answers(seeds: Sequence[Items], column: Column) -> bool:
    return all(one.get(column) for one in seeds)


def _cell(column: Column, seeds: Sequence[Items], first: Sequence[Items]) -> Cell:
    """One cell; beside ``first`` it has a difference, if that answers the column, too."""
    of_column = [one[column] for one in seeds]
    cell = make_cell(column, of_column)
    if not first or not _answers(first, column):
        return cell
    return with_difference(cell, of_column, [one[column] for one in first], over_seeds=True)


def _corrected(cells: Mapping[str, Mapping[Column, Cell]]) -> dict[str, dict[Column, Cell]]:
    """Correct the p-values of all cells together."""
    tested = [
        (title, column)
        for title, of_system in cells.items()
        for column, cell in of_system.items()
        if cell.p_value is not None
    ]
    corrected = with_holm(cells[title][column] for title, column in tested)
    result = {title: dict(of_system) for title, of_system in cells.items()}
    for (title, column), cell in zip(tested, corrected, strict=True):
        result[title][column] = cell
    return result
