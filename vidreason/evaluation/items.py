"""From prediction rows to items: what a benchmark's protocol counts once in a group of questions.

Items are the first of three steps from rows to numbers: :mod:`vidreason.evaluation.cells` takes the
means of items, and :mod:`vidreason.evaluation.tables` shows them.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions, grade
from vidreason.evaluation.protocols import (
    ACCURACY,
    ALL,
    PROTOCOLS,
    Measure,
    Protocol,
    Score,
    chance,
)

Column = tuple[str, str]
"""A corpus and a group of its questions: ``all``, a group of the official protocol (such as ``C``
or ``free``), or a question type."""
EVERYTHING: Column = (ALL, ALL)
"""All questions of all corpora."""


class Item(NamedTuple):
    """An item of a group of questions: it counts once."""

    id: str
    """Id of the prediction, or of the group of predictions that count as one."""
    measure: str
    video: str
    """Intervals and tests draw whole videos."""
    value: float | None
    """From 0 to 1; None for an answer that says nothing, which counts 0."""
    weight: float = 1.0
    """Weight of the value in the group's mean; over a group, the weights are 1 on average."""

    @property
    def share(self) -> float:
        """Contribution of the item to the mean, times the number of items."""
        return self.weight * (self.value or 0.0)


Items = dict[Column, list[Item]]
"""The items of a run by column. A column without items is one that the run cannot answer."""


def run_items(
    runs: Mapping[str, Sequence[BenchmarkPrediction]], protocols: Mapping[str, Protocol] = PROTOCOLS
) -> dict[str, Items]:
    """The items of several runs, which are the same ones in the same order.

    Args:
        runs: Predictions by name. Whole corpora may be missing in a run, but no single question.
        protocols: How each corpus is scored; one that is not listed by accuracy.

    Raises:
        ValueError: Two runs do not answer the same questions of a corpus.
    """
    # The first run that has a corpus says which questions it has, and in which order.
    expected: dict[str, list[str]] = {}
    items = {}
    for name, rows in runs.items():
        by_corpus = _by_corpus(rows, protocols)
        for corpus, of_corpus in by_corpus.items():
            expected.setdefault(corpus, [row.id for row in of_corpus])
        aligned = [
            row
            for corpus, ids in expected.items()
            if corpus in by_corpus
            for row in align_predictions(by_corpus[corpus], ids)
        ]
        items[name] = scored_items(aligned, protocols)
    return items


def scored_items(
    predictions: Sequence[BenchmarkPrediction], protocols: Mapping[str, Protocol] = PROTOCOLS
) -> Items:
    """Grade the predictions of one run, and say what counts in which group.

    Corpora come in the order of the predictions, ``all`` first in each; the other groups follow in
    the official order, or sorted where there is none. Predictions without a reference are left out,
    and those with reference texts that no score of the protocol is of.
    """
    items: Items = {}
    for corpus, rows in _by_corpus(predictions, protocols).items():
        protocol = protocols.get(corpus, Protocol())
        # A prediction counts in several groups, so it has several items.
        groups: dict[str, list[Item]] = {}
        for group, item in _items(protocol, [grade(row) for row in rows]):
            groups.setdefault(group, []).append(item)
        order = {name: number for number, name in enumerate(protocol.order())}
        for name in sorted(groups, key=lambda name: (order.get(name, len(order)), name)):
            # A mean over some of a group's questions would not be the group's.
            missing = any(math.isnan(item.value or 0.0) for item in groups[name])
            items[corpus, name] = [] if missing else groups[name]
    return items


def with_everything(items: Items) -> Items:
    """Add the column of all questions, in front."""
    every = [of_corpus for (_, group), of_corpus in items.items() if group == ALL]
    return {
        EVERYTHING: [item for of_corpus in every for item in of_corpus] if all(every) else []
    } | items


def mean_of_corpora(items: Items) -> list[Item]:
    """Items of all corpora, whose weighted mean is the mean of the corpora's means.

    Returns:
        Nothing if there is a corpus that the run cannot answer.
    """
    every = [of_corpus for (_, group), of_corpus in items.items() if group == ALL]
    if not all(every):
        return []
    num_items = sum(map(len, every))
    # Each corpus weighs the same, whatever its size; weights are 1 on average.
    return [
        item._replace(weight=item.weight * num_items / (len(every) * len(of_corpus)))
        for of_corpus in every
        for item in of_corpus
    ]


def chance_scores(
    predictions: Sequence[BenchmarkPrediction],
    protocols: Mapping[str, Protocol] = PROTOCOLS,
    known_answers: Mapping[tuple[str, str], Collection[str]] | None = None,
) -> dict[Column, float]:
    """Expected score of random options, as a fraction, by column.

    Args:
        predictions: Of one run.
        protocols: How each corpus is scored.
        known_answers: Normalised answers of each corpus and question type that an open-ended
            question is guessed from. Groups with a question that cannot be guessed are left out.
    """
    # The same groups and weights as for answers; only what a prediction is worth is another.
    guess = partial(chance, known_answers=known_answers or {})
    guessing = {
        row.corpus: replace(
            protocols.get(row.corpus, Protocol()),
            measure=guess,
            joint_measure=guess,
            further={},
            texts={},
        )
        for row in predictions
    }
    return {
        column: math.fsum(item.share for item in items) / len(items)
        for column, items in with_everything(scored_items(predictions, guessing)).items()
        if items and all(item.value is not None for item in items)
    }


def _by_corpus(
    rows: Sequence[BenchmarkPrediction], protocols: Mapping[str, Protocol]
) -> dict[str, list[BenchmarkPrediction]]:
    by_corpus: dict[str, list[BenchmarkPrediction]] = {}
    for row in rows:
        if protocols.get(row.corpus, Protocol()).scores_row(row):
            by_corpus.setdefault(row.corpus, []).append(row)
    return by_corpus


def _items(protocol: Protocol, rows: Sequence[BenchmarkPrediction]) -> Iterator[tuple[str, Item]]:
    """Each item with its group."""
    yield from _score_items(protocol.texts, rows)
    # Rows with reference texts alone count in nothing else.
    rows = [row for row in rows if row.reference is not None]
    yield from _score_items(protocol.further, rows)
    for row in rows:
        value = _measured(protocol.measure, row)
        item = Item(row.id, protocol.measure_name, row.video_id, value)
        # Each prediction by itself, in `all` too unless predictions count together there; a type of
        # that name is no second item.
        groups = dict.fromkeys((ALL, *protocol.groups_of(row)))
        if protocol.all_is_joint:
            del groups[ALL]
        for group in groups:
            yield group, item
    if protocol.all_is_joint:
        yield from _joint_items(ALL, rows, (), protocol.joint_measure, with_single=True)
    for name, types in protocol.joint.items():
        yield from _joint_items(name, rows, types, protocol.joint_measure, with_single=False)
    if protocol.macro:
        yield from _macro_items(protocol.macro, protocol.measure, rows)


def _score_items(
    scores: Mapping[str, Score], rows: Sequence[BenchmarkPrediction]
) -> Iterator[tuple[str, Item]]:
    for row in rows:
        for name, score in scores.items():
            if row.question_type == score.question_type and score.applies(row):
                yield name, Item(row.id, name, row.video_id, _measured(score.measure, row))


def _joint_items(
    group: str,
    rows: Sequence[BenchmarkPrediction],
    question_types: tuple[str, ...],
    measure: Measure,
    *,
    with_single: bool,
) -> Iterator[tuple[str, Item]]:
    """One item for the rows of each ``group_id``: right if all are, invalid if one is."""
    # Rows without a group are groups of one, told apart by their ids.
    members: dict[tuple[str, str], list[BenchmarkPrediction]] = {}
    for row in rows:
        if question_types and row.question_type not in question_types:
            continue
        if row.group_id or with_single:
            members.setdefault((row.group_id, "" if row.group_id else row.id), []).append(row)
    for together in members.values():
        # A group without one of the types cannot be right as a whole, nor wrong.
        if set(question_types) <= {row.question_type for row in together}:
            values = [_measured(measure, row) for row in together]
            # NaN, of a missing capability, goes through the product; None makes the group invalid.
            known = [value for value in values if value is not None]
            is_valid = len(known) == len(values) or math.isnan(sum(known))
            right = math.prod(known) if is_valid else None
            first = together[0]
            yield group, Item(first.group_id or first.id, ACCURACY, first.video_id, right)


def _macro_items(
    group: str, measure: Measure, rows: Sequence[BenchmarkPrediction]
) -> Iterator[tuple[str, Item]]:
    """Items whose weighted mean is the mean over question types of the types' means."""
    sizes = Counter(row.question_type for row in rows)
    for row in rows:
        # Each type weighs the same, each row of a type too; weights are 1 on average.
        weight = len(rows) / (len(sizes) * sizes[row.question_type])
        yield group, Item(row.id, ACCURACY, row.video_id, _measured(measure, row), weight)


def _measured(measure: Measure, row: BenchmarkPrediction) -> float | None:
    """Value of a row; NaN where the system cannot answer it."""
    return math.nan if row.missing_capability else measure(row)
