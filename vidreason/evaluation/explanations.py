"""Explanations beside reference explanations: the same steps, in their order, with the same links.

Steps and links are compared word for word, less case, punctuation and articles. That is a measure
of truth where references come from a closed vocabulary, such as the microworld's event log, in
which one event is told in one way. Where people or a teacher tell events freely, a step that says
the same in other words counts as wrong: there these numbers are a lower bound at best, and
:mod:`experiments.judge` has to say what is the same.
"""

from bisect import bisect, insort
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple

from vidreason.evaluation.answers.tokens import tokenise, words
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.explanations import parse_explanation

Side = Literal["precision", "recall", "f1"]

_ARTICLES = frozenset({"a", "an", "the"})
Words = tuple[str, ...]


class Overlap(NamedTuple):
    """Numbers of things that are told, that the reference tells, and that are matched.

    Each is matched with one equal thing at most: what is told twice counts twice among what is
    told, and is matched as often as the reference tells it.
    """

    num_matched: int
    num_told: int
    num_expected: int

    @property
    def precision(self) -> float:
        """Share of what is told that the reference tells; 0 where nothing is told."""
        return self.num_matched / max(self.num_told, 1)

    @property
    def recall(self) -> float:
        """Share of what the reference tells that is told; 0 where it tells nothing."""
        return self.num_matched / max(self.num_expected, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        return 2 * self.num_matched / max(self.num_told + self.num_expected, 1)


def step_score(prediction: BenchmarkPrediction, *, side: Side) -> float | None:
    """Precision, recall or F1 of the steps, by the event of each; None without any step."""
    compared = _compared_row(prediction)
    return None if compared is None else float(getattr(compared.steps, side))


def link_score(prediction: BenchmarkPrediction, *, side: Side) -> float | None:
    """Precision, recall or F1 of the links, each a cause with its effect; None without any step."""
    compared = _compared_row(prediction)
    return None if compared is None else float(getattr(compared.links, side))


def step_order(prediction: BenchmarkPrediction) -> float | None:
    """Share of the pairs of matched steps that come in the reference's order.

    It is (1 + Kendall's tau) / 2 of the matched steps; None with fewer than two of them.
    """
    compared = _compared_row(prediction)
    return None if compared is None else compared.order


def has_steps(prediction: BenchmarkPrediction) -> bool:
    """Tell whether a reference has a step: otherwise there is nothing to compare with."""
    return any(_read(text).events for text in prediction.reference_texts)


def has_order(prediction: BenchmarkPrediction) -> bool:
    """Tell whether a reference has two steps: one alone has no order."""
    return any(len(_read(text).events) > 1 for text in prediction.reference_texts)


def has_links(prediction: BenchmarkPrediction) -> bool:
    """Tell whether a reference says what is the cause of what."""
    return any(_read(text).links for text in prediction.reference_texts)


def same_words(one: str, other: str) -> bool:
    """Tell whether two clauses have the same words, less case, punctuation and articles."""
    return _said(one) == _said(other)


class _Compared(NamedTuple):
    """An explanation beside its best reference."""

    steps: Overlap
    links: Overlap
    order: float | None


def _compared_row(prediction: BenchmarkPrediction) -> _Compared | None:
    """The comparison of a row; None of an unreadable video, and where nothing is told."""
    told = _read(prediction.output)
    if prediction.error or not told.events:
        return None
    # Of several references, the one with the most steps, or links, in common.
    expected = [_read(text) for text in prediction.reference_texts]
    steps = [(_overlap(told.events, one.events), one.events) for one in expected]
    best, events = max(steps, key=lambda pair: pair[0].f1)
    links = [_overlap(told.links, one.links) for one in expected]
    return _Compared(best, max(links, key=lambda one: one.f1), _order(told.events, events))


class _Told(NamedTuple):
    """Words of the events and links of an explanation."""

    events: tuple[Words, ...]
    links: tuple[tuple[Words, Words], ...]


@lru_cache(maxsize=8)  # the scores of a row follow each other
def _read(text: str) -> _Told:
    steps = parse_explanation(text)
    links = chain.from_iterable(step.links for step in steps)
    return _Told(
        tuple(_said(step.event) for step in steps),
        tuple((_said(link.cause), _said(link.effect)) for link in links),
    )


def _said(clause: str) -> Words:
    """The words that are compared; articles only where there is nothing else."""
    told = words(tokenise(clause))
    return tuple(word for word in told if word not in _ARTICLES) or told


def _overlap(told: Sequence[Hashable], expected: Sequence[Hashable]) -> Overlap:
    matched = Counter(told) & Counter(expected)  # of each thing the smaller count
    return Overlap(matched.total(), len(told), len(expected))


def _order(told: Sequence[Words], expected: Sequence[Words]) -> float | None:
    """Share of pairs in order; the first of several equal steps is matched with the first."""
    positions: dict[Words, deque[int]] = {}
    for position, step in enumerate(expected):
        positions.setdefault(step, deque()).append(position)
    before: list[int] = []  # sorted
    num_in_order = 0
    for step in told:
        if positions.get(step):
            position = positions[step].popleft()
            # Pairs in order: this step and each former one that comes before it in the reference.
            num_in_order += bisect(before, position)
            insort(before, position)
    num_pairs = len(before) * (len(before) - 1) // 2
    return num_in_order / num_pairs if num_pairs else None
