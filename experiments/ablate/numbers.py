"""The numbers of a study: accuracies of its variants, and paired differences to the full system.

Whether a question is answered rightly is averaged over the seeds, question by question. Differences
are of such averages over the same questions; their intervals draw whole videos: they tell what
other videos might have given. The p-value of a variant counts what other seeds might have given,
too (:mod:`vidreason.evaluation.statistics.seeds`); that of a control, which is the same models
seeing less, flips videos alone, and so does that of a study with one seed.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vidreason.evaluation.metrics import ALL, score_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    paired_difference,
)
from vidreason.evaluation.statistics.paired_tests import holm, paired_test
from vidreason.evaluation.statistics.seeds import seeds_difference

Column = tuple[str, str]
"""A corpus and a group of its questions; both ``all`` for everything that was asked."""
EVERYTHING: Column = (ALL, ALL)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant with its predictions."""

    title: str
    seeds: Mapping[int, Sequence[BenchmarkPrediction]]
    """The predictions by seed, on the same questions. Differences are of the seeds that this row
    and the full system both have."""
    cost: str = ""
    """Such as ``3.1 CPU min``."""
    is_control: bool = False
    """Whether it is the full system seeing less, which is no variant: its test is corrected with no
    others."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant on one group of questions. Numbers are fractions."""

    accuracy: Interval
    seed_accuracies: tuple[float, ...]
    num_items: int
    num_videos: int
    difference: Interval | None = None
    """To the full system; negative where the variant is worse. None for the full system."""
    seed_differences: tuple[float, ...] = ()
    """Of runs of one seed."""
    p_value: float | None = None
    """Over seeds and videos; of a control, or with one seed, over videos alone."""
    adjusted_p_value: float | None = None
    """Corrected by Holm over the variants."""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """All numbers of a study."""

    rows: tuple[Row, ...]
    """The full system first."""
    columns: tuple[Column, ...]
    cells: Mapping[tuple[int, Column], Cell]
    """By number of the row, and column."""


def compare(rows: Sequence[Row]) -> StudyResult:
    """Compare all rows with the first.

    Raises:
        ValueError: They do not answer the same questions, or have no seed in common with the first.
    """
    ids = [prediction.id for prediction in next(iter(rows[0].seeds.values()))]
    items = [
        {seed: _columns(align_predictions(own, ids)) for seed, own in row.seeds.items()}
        for row in rows
    ]
    for row in rows:
        if not row.seeds.keys() & rows[0].seeds.keys():
            raise ValueError(
                f"{row.title!r} has the seeds {list(row.seeds)}, and {rows[0].title!r} has none of "
                "them: there is nothing to compare"
            )
    columns = tuple(next(iter(items[0].values())))
    cells: dict[tuple[int, Column], Cell] = {}
    for column in columns:
        own = [
            _cell(items[0], of_row, column, over_seeds=not row.is_control)
            for row, of_row in zip(rows, items, strict=True)
        ]
        variants = [number for number, row in enumerate(rows) if number and not row.is_control]
        adjusted = holm([_p_value(own[number]) for number in variants])
        for number, cell in enumerate(own):
            corrected = dict(zip(variants, adjusted, strict=True)).get(number, cell.p_value)
            cells[number, column] = replace(cell, adjusted_p_value=corrected)
    return StudyResult(rows=tuple(rows), columns=columns, cells=cells)


@dataclass(frozen=True, kw_only=True)
class _Column:
    ids: tuple[str, ...]
    values: tuple[float, ...]
    videos: tuple[str, ...]


_Seeds = Mapping[int, Mapping[Column, _Column]]


def _columns(predictions: Sequence[BenchmarkPrediction]) -> dict[Column, _Column]:
    """The items of each group of questions, and of all together."""
    videos = {prediction.id: prediction.video_id for prediction in predictions}
    videos |= {p.group_id: p.video_id for p in predictions if p.group_id}
    found: dict[Column, _Column] = {}
    every: list[tuple[str, float, str]] = []
    for corpus, groups in score_items(predictions).items():
        for group, items in groups.items():
            values = [(item.id, item.share, videos[item.id]) for item in items]
            found[corpus, group] = _column(values)
            if group == ALL:
                every += values
    return {EVERYTHING: _column(every)} | found


def _column(values: Sequence[tuple[str, float, str]]) -> _Column:
    ids, numbers, videos = zip(*values, strict=True)
    return _Column(ids=ids, values=numbers, videos=videos)


def _cell(full: _Seeds, own: _Seeds, name: Column, *, over_seeds: bool) -> Cell:
    first = next(iter(full.values()))[name]
    if any(seed[name].ids != first.ids for seed in [*full.values(), *own.values()]):
        raise ValueError(f"the runs do not answer the same questions of {name}")
    cell = Cell(
        accuracy=bootstrap_interval(_mean_over_seeds(own.values(), name), first.videos),
        seed_accuracies=tuple(statistics.fmean(seed[name].values) for seed in own.values()),
        num_items=len(first.ids),
        num_videos=len(set(first.videos)),
    )
    if own is full:
        return cell
    pairs = [(own[seed], full[seed]) for seed in own if seed in full]
    a = _mean_over_seeds([pair[0] for pair in pairs], name)
    b = _mean_over_seeds([pair[1] for pair in pairs], name)
    if over_seeds and len(pairs) > 1 and cell.num_videos > 1:
        runs_a, runs_b = ([pair[side][name].values for pair in pairs] for side in (0, 1))
        p_value = seeds_difference(runs_a, runs_b, first.videos).p_value
    else:
        p_value = paired_test(a, b, first.videos).p_value
    return replace(
        cell,
        difference=paired_difference(a, b, first.videos),
        seed_differences=tuple(
            statistics.fmean(x[name].values) - statistics.fmean(y[name].values) for x, y in pairs
        ),
        p_value=p_value,
    )


def _mean_over_seeds(seeds: Iterable[Mapping[Column, _Column]], name: Column) -> list[float]:
    values = [seed[name].values for seed in seeds]
    return [statistics.fmean(of_item) for of_item in zip(*values, strict=True)]


def _p_value(cell: Cell) -> float:
    assert cell.p_value is not None
    return cell.p_value
