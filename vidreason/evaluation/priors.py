"""Baselines that never see the video or read the question: random, majority and text prior.

A model that does not beat them has learnt the benchmark's answers, not its videos.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vidreason.evaluation.answerer import Answerer, Reply
from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.reasoning.futures import Future

K = TypeVar("K", int, str)

_MAX_EVENTS = 200  # of a distribution, which every row holds
_ANY = ""  # stands for all question types of a corpus


@dataclass(frozen=True)
class MajorityBaseline:
    """Counts of the training answers, by corpus and question type; made by :func:`fit_majority`."""

    positions: dict[tuple[str, str], Counter[int]]
    """Multiple choice: how often each index was right."""
    texts: dict[tuple[str, str], Counter[str]]
    """Count of each normalised answer that was right: option texts and open-ended answers."""

    def knows(self, example: Example) -> bool:
        """Tell whether there is a training answer of the form that a question asks for."""
        table = self.positions if example.options else self.texts
        return any(table.get((example.corpus, kind)) for kind in (example.question_type, _ANY))


def fit_majority(train: Iterable[Example]) -> MajorityBaseline:
    """Count the answers of *training* examples; the benchmark's own would leak."""
    positions: dict[tuple[str, str], Counter[int]] = {}
    texts: dict[tuple[str, str], Counter[str]] = {}
    for example in train:
        # Over all types as well, for types that training does not have.
        for key in ((example.corpus, example.question_type), (example.corpus, _ANY)):
            if example.answer_index is not None:
                positions.setdefault(key, Counter())[example.answer_index] += 1
            texts.setdefault(key, Counter()).update(map(normalise_answer, example.answers))
    return MajorityBaseline(positions, texts)


class RandomAnswerer(Answerer):
    """Chooses an option at random; what has no options is not applicable.

    The choice depends on the seed and the question's id alone: it is the same whichever other
    questions are asked, and in whichever order.

    Args:
        seed: Of the draw.
    """

    provenance = Provenance(model="random option")

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        """Choose each option with the same probability."""
        replies = []
        for example in examples:
            # An id may hold half a character, as JSON allows.
            digest = hashlib.sha256(f"{self._seed} {example.id}".encode("utf-8", "surrogatepass"))
            number = int.from_bytes(digest.digest())
            replies.append(_choice(example, number % len(example.options)))
        return replies


class MajorityAnswerer(Answerer):
    """Answers with the most frequent training answer of the question's corpus and type.

    Multiple choice: the most frequent index of the right option. Open-ended: the most frequent
    answer. A type that was not trained on gets the corpus' most frequent answer. Among equally
    frequent answers, the smallest index or the first text in alphabetical order. A corpus that was
    not trained on is a ``ValueError``.
    """

    provenance = Provenance(model="majority answer")

    def __init__(self, baseline: MajorityBaseline) -> None:
        self._baseline = baseline

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        """Choose the most frequent index, or the first where it is not offered."""
        indices = [
            _most_frequent(_counts(self._baseline.positions, question)) for question in examples
        ]
        return [
            _choice(example, index if index < len(example.options) else 0)
            for example, index in zip(examples, indices, strict=True)
        ]

    def answer(self, examples: Sequence[Example]) -> list[Reply]:
        """Answer with the most frequent text."""
        return [
            Reply(output=_most_frequent(_counts(self._baseline.texts, example)))
            for example in examples
        ]

    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        """Predict the most frequent event, and the training frequencies as probabilities."""
        replies = []
        for example in examples:
            counts = _counts(self._baseline.texts, example)
            replies.append(Reply(output=_most_frequent(counts), futures=_frequencies(counts)))
        return replies


class TextPriorAnswerer(MajorityAnswerer):
    """Chooses the offered option whose text was most often right in training.

    Among equally frequent options the first. This shows what the answer texts alone give away;
    open-ended questions are answered as by the majority.
    """

    provenance = Provenance(model="most frequent option")

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        """Choose by the training frequencies of the options' texts."""
        replies = []
        for example in examples:
            counts = _counts(self._baseline.texts, example)
            frequencies = [counts[normalise_answer(option)] for option in example.options]
            replies.append(_choice(example, frequencies.index(max(frequencies))))
        return replies


def _choice(example: Example, index: int) -> Reply:
    """Choose an option by an order of all, which are no likelihoods: of no tokens."""
    scores = [0.0 if option == index else -1.0 for option in range(len(example.options))]
    return Reply(log_likelihoods=tuple(scores))


def _counts(table: dict[tuple[str, str], Counter[K]], example: Example) -> Counter[K]:
    for key in ((example.corpus, example.question_type), (example.corpus, _ANY)):
        if table.get(key):
            return table[key]
    raise ValueError(
        f"the majority baseline has no training answer of corpus {example.corpus!r}: fit it on "
        "that corpus' "
        f"training split (question {example.id!r})"
    )


def _frequencies(counts: Counter[str]) -> tuple[Future, ...]:
    """The most frequent events with their shares of all."""
    total = counts.total()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    # An answer without a word is no event.
    shares = [(event, count / total) for event, count in ordered if event]
    return tuple(Future(event, math.log(share), share) for event, share in shares[:_MAX_EVENTS])


def _most_frequent(counts: Counter[K]) -> K:
    return min(counts, key=lambda answer: (-counts[answer], answer))
