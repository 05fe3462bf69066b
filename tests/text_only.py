"""How far the words alone go: naive Bayes over question and options, without any video."""

from collections import Counter
from collections.abc import Sequence

from vidreason.example import Example
from vidreason.microworld.simulation import COLORS, SHAPES

Feature = tuple[str, ...]


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
        rates = [(right[f] + 10 * prior) / (seen[f] + 10) for f in _features(example, index)]
        return sum(rates) / len(rates)

    correct = 0
    for example in test:
        scores = [score(example, index) for index in range(len(example.options))]
        correct += scores.index(max(scores)) == example.answer_index
    return correct / len(test)


def _features(example: Example, index: int) -> list[Feature]:
    option = example.options[index]
    question = example.meta["question"].split()
    pairs = [("pair", word, option) for word in question if word not in option.split()]
    words = " ".join(word for word in question if word not in (*COLORS, *SHAPES))
    kinds = [_kind(other) for other in example.options]
    rivals = [("rival", words, kinds[index], other) for other in kinds if other != kinds[index]]
    return [("option", option), ("kind", words, kinds[index]), *pairs, *rivals]


def _kind(option: str) -> str:
    """An option without the objects' names."""
    return " ".join(word for word in option.split() if word not in (*COLORS, *SHAPES))
