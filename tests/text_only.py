"""How far the words alone go: naive Bayes over question and options, without any video."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import log, sqrt
from typing import NamedTuple

from vidreason.example import Example
from vidreason.microworld.simulation import COLORS, SHAPES

Feature = tuple[str, ...]
_NAMES = (*COLORS, *SHAPES)
_MANY = 30


class Guess(NamedTuple):
    """Result of guessing."""

    accuracy: float
    prior: float
    """Accuracy of the answer that is right most often, for each form of question."""
    count: int
    """Number of questions."""

    @property
    def limit(self) -> float:
        """Prior and three standard errors of it."""
        return self.prior + 3 * sqrt(self.prior * (1 - self.prior) / self.count)


def text_only_accuracy(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Share of ``test`` that is answered rightly by what ``train`` says of words and options."""
    right: Counter[Feature] = Counter()
    seen: Counter[Feature] = Counter()
    for example in train:
        for index in range(len(example.options)):
            for feature in _features(example, index):
                seen[feature] += 1
                right[feature] += index == example.answer_index

    def score(example: Example, index: int) -> float:
        prior = 1 / len(example.options)
        return sum(
            log((right[f] + 10 * prior) / (seen[f] + 10)) for f in _features(example, index)
        ) / len(_features(example, index))

    correct = 0
    for example in test:
        scores = [score(example, index) for index in range(len(example.options))]
        correct += scores.index(max(scores)) == example.answer_index
    return correct / len(test)


def guess(train: Sequence[Example], test: Sequence[Example]) -> Guess:
    """Answer ``test`` by its words; the options of open questions are all answers to such ones."""
    answers: dict[str, set[str]] = defaultdict(set)
    for example in train:
        answers[form(example)].add(example.response)
    train, test = (
        [_with_options(example, answers) for example in examples] for examples in (train, test)
    )
    return Guess(text_only_accuracy(train, test), _prior(test), len(test))


def form(example: Example) -> str:
    """The question without the objects' names."""
    return _kind(example.meta["question"])


def by_form(examples: Iterable[Example]) -> Mapping[str, list[Example]]:
    """Examples by their :func:`form`."""
    forms: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        forms[form(example)].append(example)
    return forms


def _with_options(example: Example, answers: Mapping[str, set[str]]) -> Example:
    if example.answer_index is not None:
        return example
    options = sorted({*answers[form(example)], example.response})
    return replace(example, options=tuple(options), answer_index=options.index(example.response))


def _prior(examples: Sequence[Example]) -> float:
    """Accuracy of the commonest answer to each form of question, or of any option if that is more.

    Of a form with few questions only the latter: some answer is commonest by chance.
    """
    right = 0.0
    for of_form in by_form(examples).values():
        chance = sum(1 / len(example.options) for example in of_form)
        commonest = Counter(example.response for example in of_form).most_common(1)[0][1]
        right += max(commonest, chance) if len(of_form) >= _MANY else chance
    return right / len(examples)


def _features(example: Example, index: int) -> list[Feature]:
    option = example.options[index]
    question = example.meta["question"].split()
    pairs = [("pair", word, option) for word in question if word not in option.split()]
    words = _kind(example.meta["question"])
    kinds = [_kind(other) for other in example.options]
    rivals = [("rival", words, kinds[index], other) for other in kinds if other != kinds[index]]
    return [("option", option), ("kind", words, kinds[index]), *pairs, *rivals]


def _kind(text: str) -> str:
    """A text without the objects' names."""
    return " ".join(word for word in text.split() if word.strip("[].:") not in _NAMES)
