"""Cells of a table of results: a run on a group of questions, beside another run on the same items.

Of several seeds, values are averaged over the seeds item by item. A score's interval and that of a
difference draw whole videos: they tell what other videos might have given. The p-value of a
difference does so, too, unless it is asked for over seeds
(:mod:`vidreason.evaluation.statistics.seeds`).
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vidreason.evaluation.items import Column, Item, Items, scored_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions
from vidreason.evaluation.protocols import PROTOCOLS, Protocol
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    paired_difference,
)
from vidreason.evaluation.statistics.paired_tests import PairedTest, holm, paired_test
from vidreason.evaluation.statistics.seeds import seeds_p_value

Seeds = Sequence[Sequence[Item]]
"""The items of one column under each seed, the same ones in the same order."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run, or several seeds of it, on one group of questions. Scores are fractions."""

    corpus: str
    group: str
    measure: str
    """Whose mean ``score`` is; most often whether the answer is right."""
    num_items: int
    """Questions, or groups of questions where those count as one."""
    num_videos: int
    num_correct: int
    """Items of value 1."""
    num_invalid: int
    """Items whose output named no option or span, or whose video could not be read. They count as
    wrong."""
    score: Interval
    """With its 95% interval over videos."""
    seed_scores: tuple[float, ...]
    difference: Interval | None = None
    """Paired difference of two runs, of which this is one, with its 95% interval over videos."""
    seed_differences: tuple[float, ...] = ()
    test: PairedTest | None = None
    """Test of the two runs over videos; None where ``p_value`` is over seeds."""
    p_value: float | None = None
    p_value_holm: float | None = None
    """Corrected over the tests of one family; see :func:`with_holm`."""


def make_cell(column: Column, seeds: Seeds) -> Cell:
    """Score a run on a column.

    Raises:
        ValueError: There are no items.
    """
    first = seeds[0]
    values = _mean_over_seeds(seeds)
    corpus, group = column
    return Cell(
        corpus=corpus,
        group=group,
        measure=first[0].measure,
        num_items=len(first),
        num_videos=len({item.video for item in first}),
        num_correct=sum(value == 1.0 for value in values),
        num_invalid=sum(item.value is None for item in first),
        score=bootstrap_interval(values, _videos(first), [item.weight for item in first]),
        seed_scores=tuple(map(_mean, seeds)),
    )


def with_difference(cell: Cell, first: Seeds, second: Seeds, *, over_seeds: bool = False) -> Cell:
    """Add the paired difference ``first - second`` to a cell.

    Args:
        cell: Of one of the two runs.
        first: Its items, or those of the run that it is compared with.
        second: The other's, under the same seeds in the same order. Of another number of seeds,
            there are no differences by seed.
        over_seeds: Test whether other seeds would differ, too, where there are at least two seeds
            of each and two videos.

    Raises:
        ValueError: The items are not the same.
    """
    items = first[0]
    # Values are paired by their positions.
    ids = [item.id for item in items]
    if any([item.id for item in seed] != ids for seed in (*first, *second)):
        raise ValueError(f"the runs do not answer the same questions of {cell.corpus} {cell.group}")
    videos = _videos(items)
    # (seeds, items): what each answer adds to its run's score.
    shares_a, shares_b = (
        [[item.share for item in seed] for seed in run] for run in (first, second)
    )
    # Over seeds, one test of both variances; of single runs, one of videos alone.
    test = None
    if over_seeds and min(len(first), len(second)) > 1 and cell.num_videos > 1:
        p_value = seeds_p_value(shares_a, shares_b, videos)
    else:
        test = paired_test(_mean_by_item(shares_a), _mean_by_item(shares_b), videos)
        p_value = test.p_value
    weights = [item.weight for item in items]
    return replace(
        cell,
        difference=paired_difference(
            _mean_over_seeds(first), _mean_over_seeds(second), videos, weights
        ),
        seed_differences=tuple(_mean(a) - _mean(b) for a, b in zip(first, second, strict=True))
        if len(first) == len(second)
        else (),
        test=test,
        p_value=p_value,
    )


def with_holm(cells: Iterable[Cell]) -> list[Cell]:
    """Correct the p-values of a family of cells together, by Holm; each must have one."""
    cells = list(cells)
    adjusted = holm([cell.p_value for cell in cells if cell.p_value is not None])
    return [
        replace(cell, p_value_holm=p_value) for cell, p_value in zip(cells, adjusted, strict=True)
    ]


def run_cells(items: Items) -> dict[Column, Cell]:
    """Score one run on each column that it can answer."""
    return {column: make_cell(column, [one]) for column, one in items.items() if one}


def run_differences(runs: Mapping[str, Items], column: Column, against: str) -> dict[str, Cell]:
    """Subtract each other run from the run ``against`` on a column; p-values are one family.

    Returns:
        The cells of the other runs with differences, by name; none of runs that cannot answer, and
        none at all if ``against`` cannot.
    """
    if not runs.get(against, {}).get(column):
        return {}
    first = runs[against][column]
    others = {
        name: one[column] for name, one in runs.items() if name != against and one.get(column)
    }
    # One family of tests: all that is compared on this column.
    cells = [with_difference(make_cell(column, [one]), [first], [one]) for one in others.values()]
    return dict(zip(others, with_holm(cells), strict=True))


def score_predictions(
    predictions: Sequence[BenchmarkPrediction],
    expected_ids: Iterable[str] | None = None,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> list[Cell]:
    """Grade the predictions of one run, and score each corpus and group.

    Args:
        predictions: Of one or several corpora; those without a reference are left out.
        expected_ids: The questions of the benchmark; None to trust that the predictions are
            complete.
        protocols: How each corpus is scored; one that is not listed by accuracy.

    Raises:
        ValueError: A prediction is missing, there twice, or of an unknown question.
    """
    # Without expected ids, whether one comes twice is still checked.
    ids = [row.id for row in predictions] if expected_ids is None else expected_ids
    items = scored_items(align_predictions(predictions, ids), protocols)
    return list(run_cells(items).values())


def _mean_over_seeds(seeds: Seeds) -> list[float]:
    """The unweighted value of each item."""
    return _mean_by_item([[item.value or 0.0 for item in seed] for seed in seeds])


def _mean_by_item(seeds: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(values) for values in zip(*seeds, strict=True)]


def _mean(items: Sequence[Item]) -> float:
    return math.fsum(item.share for item in items) / len(items)


def _videos(items: Sequence[Item]) -> list[str]:
    return [item.video for item in items]
