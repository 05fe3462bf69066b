"""Baselines that never see the video or read the question: majority answer and text prior.

A model that does not beat them has learnt the benchmark's answers, not its videos.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, judge, unanswered
from vidreason.example import Example

K = TypeVar("K", int, str)

_ANY = ""  # stands for all question types of a corpus


@dataclass(frozen=True)
class MajorityBaseline:
    """Counts of the training answers, by corpus and question type; made by :func:`fit_majority`."""

    positions: dict[tuple[str, str], Counter[int]]
    """Multiple choice: how often each index was right."""
    texts: dict[tuple[str, str], Counter[str]]
    """How often each normalised answer was right: option texts and open-ended answers."""


def fit_majority(train: Iterable[Example]) -> MajorityBaseline:
    """Count the answers of *training* examples; the benchmark's own would leak."""
    positions: dict[tuple[str, str], Counter[int]] = {}
    texts: dict[tuple[str, str], Counter[str]] = {}
    for example in train:
        for key in ((example.corpus, example.question_type), (example.corpus, _ANY)):
            if example.answer_index is not None:
                positions.setdefault(key, Counter())[example.answer_index] += 1
            texts.setdefault(key, Counter()).update(map(normalise_answer, example.answers))
    return MajorityBaseline(positions, texts)


def majority_predictions(
    baseline: MajorityBaseline, examples: Sequence[Example]
) -> list[BenchmarkPrediction]:
    """Answer with the most frequent training answer of the question's corpus and type.

    Multiple choice: the most frequent index of the right option. Open-ended: the most frequent
    answer. A type that was not trained on gets the corpus' most frequent answer. Among equally
    frequent answers, the smallest index or the first text in alphabetical order.

    Raises:
        ValueError: Nothing was trained on a corpus.
    """
    predictions = []
    for example in examples:
        row = unanswered(example)
        if example.options:
            index = _most_frequent(_counts(baseline.positions, example))
            row = _choose(row, index if index < len(example.options) else 0)
        else:
            row = replace(row, output=_most_frequent(_counts(baseline.texts, example)))
        predictions.append(judge(row))
    return predictions


def text_prior_predictions(
    baseline: MajorityBaseline, examples: Sequence[Example]
) -> list[BenchmarkPrediction]:
    """Choose the offered option whose text was most often right in training.

    Among equally frequent options the first. This shows what the answer texts alone give away;
    open-ended questions are answered as by :func:`majority_predictions`.

    Raises:
        ValueError: Nothing was trained on a corpus.
    """
    predictions = []
    for example in examples:
        row = unanswered(example)
        counts = _counts(baseline.texts, example)
        if example.options:
            frequencies = [counts[normalise_answer(option)] for option in example.options]
            row = _choose(row, frequencies.index(max(frequencies)))
        else:
            row = replace(row, output=_most_frequent(counts))
        predictions.append(judge(row))
    return predictions


def _choose(row: BenchmarkPrediction, index: int) -> BenchmarkPrediction:
    """Choose an option by made-up scores, which are no likelihoods."""
    scores = [0.0 if option == index else -1.0 for option in range(len(row.options))]
    return replace(row, option_log_likelihoods=tuple(scores))  # an order, of no tokens


def _counts(table: dict[tuple[str, str], Counter[K]], example: Example) -> Counter[K]:
    for key in ((example.corpus, example.question_type), (example.corpus, _ANY)):
        if table.get(key):
            return table[key]
    raise ValueError(
        f"the majority baseline has no training answer of corpus {example.corpus!r}: fit it on "
        "that corpus' "
        f"training split (question {example.id!r})"
    )


def _most_frequent(counts: Counter[K]) -> K:
    return min(counts, key=lambda answer: (-counts[answer], answer))
