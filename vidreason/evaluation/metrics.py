"""Scores of predictions by each benchmark's protocol, with intervals, and differences of runs.

What a benchmark counts is in :mod:`vidreason.evaluation.protocols`.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    align_predictions,
    judge,
)
from vidreason.evaluation.protocols import (
    ACCURACY,
    ACTIVITYNET_QA_GROUPS,
    ALL,
    PROTOCOLS,
    Measure,
    Protocol,
    chance,
)
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    paired_difference,
)
from vidreason.evaluation.statistics.paired_tests import PairedTest, paired_test

__all__ = [
    "ALL",
    "Difference",
    "Score",
    "ScoredItem",
    "chance_scores",
    "compare_runs",
    "official_free_accuracy",
    "question_groups",
    "score_items",
    "score_predictions",
]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The mean of one measure over one group of questions."""

    corpus: str
    group: str
    """``all``, a group of the official protocol (such as ``C`` or ``free``), or a question type."""
    measure: str = ACCURACY
    """What ``accuracy`` is the mean of; most often whether the answer is right."""
    num_questions: int
    """Rows, or groups of rows where those count as one."""
    num_videos: int
    num_correct: int
    """Of value 1."""
    num_invalid: int
    """Questions whose output named no option or span, or whose video could not be read. They count
    as wrong."""
    accuracy: Interval
    """Fractions, with the 95% interval over videos."""


class ScoredItem(NamedTuple):
    """What counts once in a group."""

    id: str
    """Of the prediction, or of the group of predictions that count as one."""
    group: str
    measure: str
    value: float | None
    """None for an answer that says nothing."""
    cluster: str
    weight: float = 1.0
    """Of the value in the group's mean; over a group, the weights are 1 on average."""

    @property
    def share(self) -> float:
        """What the item adds to the mean, times the number of items."""
        return self.weight * (self.value or 0.0)


def question_groups(corpus: str, question_type: str) -> tuple[str, ...]:
    """The groups that a question counts in: ``all``, the official ones, its type."""
    return (ALL, *PROTOCOLS.get(corpus, Protocol()).groups_of(question_type))


def score_predictions(
    predictions: Sequence[BenchmarkPrediction],
    expected_ids: Iterable[str] | None = None,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> list[Score]:
    """Judge predictions again from what the model gave, and score each corpus and group.

    Predictions without a reference are left out. ``all`` comes first in each corpus; the other
    groups follow in the official order, or sorted where there is none.

    Args:
        predictions: Of one run, of one or several corpora.
        expected_ids: The questions of the benchmark; None to trust that the predictions are
            complete.
        protocols: How each corpus is scored; one that is not listed by accuracy.

    Raises:
        ValueError: A prediction is missing, there twice, or of an unknown question.
    """
    ids = [prediction.id for prediction in predictions] if expected_ids is None else expected_ids
    return [
        _score(corpus, items)
        for corpus, groups in score_items(align_predictions(predictions, ids), protocols).items()
        for items in groups.values()
    ]


def score_items(
    predictions: Sequence[BenchmarkPrediction], protocols: Mapping[str, Protocol] = PROTOCOLS
) -> dict[str, dict[str, list[ScoredItem]]]:
    """What :func:`score_predictions` takes the means of: items by corpus and group, in its order.

    Two runs that answer the same questions have the same items in the same order.
    """
    by_corpus: dict[str, list[BenchmarkPrediction]] = {}
    for prediction in map(judge, predictions):
        if prediction.correct is not None:
            by_corpus.setdefault(prediction.corpus, []).append(prediction)
    return {
        corpus: _grouped_items(by_corpus[corpus], protocols.get(corpus, Protocol()))
        for corpus in sorted(by_corpus)
    }


def chance_scores(
    predictions: Sequence[BenchmarkPrediction], protocols: Mapping[str, Protocol] = PROTOCOLS
) -> dict[str, dict[str, float]]:
    """What random options score: expected values by corpus and group, as fractions.

    Groups with an open-ended question are left out: nothing can be guessed there.
    """
    guessing = {
        row.corpus: replace(
            protocols.get(row.corpus, Protocol()), measure=chance, joint_measure=chance, further={}
        )
        for row in predictions
    }
    expected: dict[str, dict[str, float]] = {}
    for corpus, groups in score_items(predictions, guessing).items():
        for group, items in groups.items():
            if all(item.value is not None for item in items):
                mean = math.fsum(item.share for item in items) / len(items)
                expected.setdefault(corpus, {})[group] = mean
    return expected


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One measure over one group of questions, of one run minus another."""

    corpus: str
    group: str
    measure: str
    num_questions: int
    num_videos: int
    means: tuple[float, float]
    """Of both runs, as fractions."""
    difference: Interval
    """Fractions, with the paired 95% interval over videos."""
    test: PairedTest
    """Whether the runs differ; its p-value is not corrected for other tests."""


def compare_runs(
    run_a: Sequence[BenchmarkPrediction],
    run_b: Sequence[BenchmarkPrediction],
    protocols: Mapping[str, Protocol] = PROTOCOLS,
    groups: Container[str] | None = (ALL,),
) -> list[Difference]:
    """``run_a`` minus ``run_b`` in what :func:`score_predictions` scores, question by question.

    Args:
        run_a: Predictions of one run.
        run_b: Of another one, of the same questions in any order.
        protocols: How each corpus is scored.
        groups: Which groups of each corpus to compare; None for each.

    Raises:
        ValueError: The runs do not answer the same questions.
    """
    matched = align_predictions(run_b, [prediction.id for prediction in run_a])
    items_a, items_b = score_items(run_a, protocols), score_items(matched, protocols)
    return [
        _difference(corpus, items, items_b[corpus][group])
        for corpus, of_corpus in items_a.items()
        for group, items in of_corpus.items()
        if groups is None or group in groups
    ]


def official_free_accuracy(question_types: Sequence[str], correct: Sequence[bool]) -> float:
    """ActivityNet-QA's "free" accuracy *as its official script prints it*, which is wrong.

    The script divides the right answers of types 3 to 8 by the sizes of the types that come fourth
    and later *in order of first appearance*, which are other types. It is here only to compare with
    printed numbers; the right value is the accuracy of the group ``free``.

    Args:
        question_types: Codes "0" to "8", in the order of the official answer file.
        correct: One flag a question.
    """
    sizes: dict[str, int] = {}
    for question_type in question_types:
        sizes[question_type] = sizes.get(question_type, 0) + 1
    num_correct = sum(
        flag
        for question_type, flag in zip(question_types, correct, strict=True)
        if "free" in ACTIVITYNET_QA_GROUPS[question_type]
    )
    denominator = sum(list(sizes.values())[3:])
    return num_correct / denominator if denominator else float("nan")


def _grouped_items(
    rows: Sequence[BenchmarkPrediction], protocol: Protocol
) -> dict[str, list[ScoredItem]]:
    items: dict[str, list[ScoredItem]] = {}
    for item in _items(protocol, rows):
        items.setdefault(item.group, []).append(item)
    order = protocol.order()
    known = {name: number for number, name in enumerate(order)}
    names = sorted(items, key=lambda name: (known.get(name, len(known)), name))
    return {name: items[name] for name in names}


def _items(protocol: Protocol, rows: Sequence[BenchmarkPrediction]) -> Iterator[ScoredItem]:
    for row, cluster in zip(rows, _clusters(rows), strict=True):
        value = protocol.measure(row)
        if not protocol.all_is_joint:
            yield ScoredItem(row.id, ALL, protocol.measure_name, value, cluster)
        for group in protocol.groups_of(row.question_type):
            yield ScoredItem(row.id, group, protocol.measure_name, value, cluster)
        for name, (question_type, measure) in protocol.further.items():
            if row.question_type == question_type:
                yield ScoredItem(row.id, name, name, measure(row), cluster)
    if protocol.all_is_joint:
        yield from _joint_items(ALL, rows, (), protocol.joint_measure, with_single=True)
    for name, types in protocol.joint.items():
        yield from _joint_items(name, rows, types, protocol.joint_measure, with_single=False)
    if protocol.macro:
        yield from _macro_items(protocol.macro, protocol.measure, rows)


def _joint_items(
    name: str,
    rows: Sequence[BenchmarkPrediction],
    question_types: tuple[str, ...],
    measure: Measure,
    *,
    with_single: bool,
) -> Iterator[ScoredItem]:
    """One item for the rows of each ``group_id``: right if all are, invalid if one is."""
    members: dict[tuple[str, str], list[BenchmarkPrediction]] = {}
    for row in rows:
        if question_types and row.question_type not in question_types:
            continue
        if row.group_id or with_single:
            members.setdefault((row.group_id, "" if row.group_id else row.id), []).append(row)
    for own in members.values():
        if set(question_types) <= {row.question_type for row in own}:
            values = [measure(row) for row in own]
            known = [value for value in values if value is not None]
            right = math.prod(known) if len(known) == len(values) else None
            item_id = own[0].group_id or own[0].id
            yield ScoredItem(item_id, name, ACCURACY, right, _clusters(own)[0])


def _macro_items(
    name: str, measure: Measure, rows: Sequence[BenchmarkPrediction]
) -> Iterator[ScoredItem]:
    """Items whose weighted mean is the mean over question types of the types' means."""
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.question_type] = sizes.get(row.question_type, 0) + 1
    for row, cluster in zip(rows, _clusters(rows), strict=True):
        weight = len(rows) / (len(sizes) * sizes[row.question_type])
        yield ScoredItem(row.id, name, ACCURACY, measure(row), cluster, weight)


def _score(corpus: str, items: Sequence[ScoredItem]) -> Score:
    clusters = [item.cluster for item in items]
    values = [item.value or 0.0 for item in items]
    return Score(
        corpus=corpus,
        group=items[0].group,
        measure=items[0].measure,
        num_questions=len(items),
        num_videos=len(set(clusters)),
        num_correct=sum(value == 1.0 for value in values),
        num_invalid=sum(item.value is None for item in items),
        accuracy=bootstrap_interval(values, clusters, [item.weight for item in items]),
    )


def _difference(
    corpus: str, items_a: Sequence[ScoredItem], items_b: Sequence[ScoredItem]
) -> Difference:
    clusters, weights = (
        [getattr(item, name) for item in items_a] for name in ("cluster", "weight")
    )
    values_a, values_b = ([item.value or 0.0 for item in items] for items in (items_a, items_b))
    shares_a, shares_b = ([item.share for item in items] for items in (items_a, items_b))
    return Difference(
        corpus=corpus,
        group=items_a[0].group,
        measure=items_a[0].measure,
        num_questions=len(items_a),
        num_videos=len(set(clusters)),
        means=(math.fsum(shares_a) / len(items_a), math.fsum(shares_b) / len(items_b)),
        difference=paired_difference(values_a, values_b, clusters, weights),
        test=paired_test(shares_a, shares_b, clusters),
    )


def _clusters(predictions: Sequence[BenchmarkPrediction]) -> list[str]:
    # Two corpora may use one id for different videos.
    return [f"{prediction.corpus}:{prediction.video_id}" for prediction in predictions]
