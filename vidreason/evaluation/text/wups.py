"""WUPS of short answers, as NExT-QA's open-ended benchmark scores them.

Source: github doc-doc/NExT-OE (a83f8f5), ``metrics.py``. Its published numbers were made with NLTK
3.5 or older, whose Wu-Palmer similarity has a common root for all verbs only if the *first* word is
a verb; NLTK 3.6.1 gave one to adjectives and adverbs as well, which moves the benchmark's number
(21.50 to 20.41 on its example predictions). The legacy rule is the default here, as comparability
needs it; ``modern`` is there to explain numbers of others.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from vidreason.evaluation.text.wordnet import NOUN, VERB, Synset, WordNet

WupsRule = Literal["legacy", "modern"]

_PENALTY = 0.1  # factor below the threshold, after Malinowski and Fritz
_ROOT = Synset("", -1)
_ROOT_NAME = "*ROOT*"


class Wups:
    """WUPS with one WordNet and one rule.

    Args:
        wordnet: WordNet 3.0 for the published numbers.
        rule: See the module.
    """

    def __init__(self, wordnet: WordNet, rule: WupsRule = "legacy") -> None:
        self._wordnet = wordnet
        self._rule = rule
        self.word_similarity = lru_cache(maxsize=1_000_000)(self._word_similarity)
        self._ancestors = lru_cache(maxsize=100_000)(self._distances_upwards)
        self._depths = lru_cache(maxsize=100_000)(self._min_and_max_depth)

    def answer_tokens(self, answer: str, stop_words: frozenset[str] = frozenset()) -> list[str]:
        """Lemmas of an answer without stop words.

        The official script takes lemmas by part of speech (pywsd, with a tagger that cannot be
        packaged). Here a word that WordNet has not as a noun is taken for a verb. As there, a word
        without any meaning gives way to its Porter stem if that has one, even "his" to "hi": on
        the benchmark's example predictions this gives 21.50, published 21.48, and 21.70 without.

        Args:
            answer: Free text; case and punctuation at the ends of words do not matter.
            stop_words: The benchmark's ``stopwords.txt``, compared with the lemmas.

        Raises:
            ValueError: The package snowballstemmer is not installed.
        """
        words = [word.strip("\"'.,;:!?()[]{}") for word in answer.lower().split()]
        lemmas = [self._lemma(word) for word in words if word]
        return [lemma for lemma in lemmas if lemma not in stop_words]

    def score(self, answer: Sequence[str], reference: Sequence[str], alpha: float = 0.0) -> float:
        """WUPS of two token lists, from 0 to 1.

        For each token of one side, the best similarity on the other side; these are multiplied,
        leaving out zeros; the smaller of both directions counts.

        Args:
            answer: Tokens of the answer, such as those of :meth:`answer_tokens`.
            reference: Tokens of the reference.
            alpha: Similarities below it are multiplied by 0.1; the benchmark prints ``alpha=0``.
        """
        return min(
            self._one_direction(answer, reference, alpha),
            self._one_direction(reference, answer, alpha),
        )

    def _one_direction(self, first: Sequence[str], second: Sequence[str], alpha: float) -> float:
        best = (
            max((self._penalised(word, other, alpha) for other in second), default=0.0)
            for word in first
        )
        # As officially, words without any similarity are passed over.
        positive = [value for value in best if value > 0]
        return math.prod(positive) if positive else 0.0

    def _penalised(self, word: str, other: str, alpha: float) -> float:
        similarity = 1.0 if word == other else self.word_similarity(word, other)
        return similarity if similarity >= alpha else _PENALTY * similarity

    def _lemma(self, word: str) -> str:
        lemma = word
        for part_of_speech in (NOUN, VERB):
            if lemma == word:
                lemma = next(iter(self._wordnet.base_forms(word, part_of_speech)), word)
        if self._wordnet.synsets(lemma):
            return lemma
        stem = _porter_stem(word)
        return stem if self._wordnet.synsets(stem) else word

    def _word_similarity(self, word: str, other: str) -> float:
        """Wu-Palmer similarity of the words' most frequent meanings; 0 where they share nothing.

        It is not symmetric under the legacy rule.
        """
        meanings, others = self._wordnet.synsets(word), self._wordnet.synsets(other)
        if not meanings or not others:
            return 0.0
        return self._wu_palmer(meanings[0], others[0])

    def _wu_palmer(self, first: Synset, second: Synset) -> float:
        rooted = self._needs_root(first) or (self._rule == "modern" and self._needs_root(second))
        subsumer = self._lowest_common_ancestor(first, second, rooted=rooted)
        if subsumer is None:
            return 0.0
        depth = self._depths(subsumer)[1] + 1
        distances = [
            self._shortest_distance(synset, subsumer, rooted=rooted) for synset in (first, second)
        ]
        # Twice the depth of what both are, by the sum of their depths below it; depths count nodes,
        # so that the root has 1.
        return 2.0 * depth / (sum(distances) + 2 * depth)

    def _needs_root(self, synset: Synset) -> bool:
        if self._rule == "modern":
            return synset.part_of_speech != NOUN
        return synset.part_of_speech == VERB

    def _lowest_common_ancestor(
        self, first: Synset, second: Synset, *, rooted: bool
    ) -> Synset | None:
        """The common ancestor with the longest shortest way to the top.

        Among equals ``first`` itself, else the first by name.
        """
        common = set(self._ancestors(first)) & set(self._ancestors(second))
        if rooted:
            common.add(_ROOT)
        if not common:
            return None
        deepest = max(self._depths(synset)[0] for synset in common)
        lowest = [synset for synset in common if self._depths(synset)[0] == deepest]
        return first if first in lowest else min(lowest, key=self._name)

    def _shortest_distance(self, synset: Synset, other: Synset, *, rooted: bool) -> int:
        distances, others = (
            self._with_root(self._ancestors(end), rooted=rooted) for end in (synset, other)
        )
        return min(
            steps + others[meeting] for meeting, steps in distances.items() if meeting in others
        )

    @staticmethod
    def _with_root(distances: dict[Synset, int], *, rooted: bool) -> dict[Synset, int]:
        # The root is one step above the furthest ancestor, not the nearest: so NLTK has it.
        if not rooted or _ROOT in distances:
            return distances
        return distances | {_ROOT: max(distances.values()) + 1}

    def _distances_upwards(self, synset: Synset) -> dict[Synset, int]:
        """Fewest steps to each ancestor, 0 to the synset itself."""
        distances = {synset: 0}
        reached = [synset]
        # Breadth first: the list grows as it is read.
        for lower in reached:
            for upper in () if lower == _ROOT else self._wordnet.hypernyms(lower):
                if upper not in distances:
                    distances[upper] = distances[lower] + 1
                    reached.append(upper)
        return distances

    def _min_and_max_depth(self, synset: Synset) -> tuple[int, int]:
        upper = () if synset == _ROOT else self._wordnet.hypernyms(synset)
        depths = [self._depths(parent) for parent in upper]
        if not depths:
            return 0, 0
        return 1 + min(depth[0] for depth in depths), 1 + max(depth[1] for depth in depths)

    def _name(self, synset: Synset) -> str:
        return _ROOT_NAME if synset == _ROOT else self._wordnet.name(synset)


@lru_cache(maxsize=100_000)
def _porter_stem(word: str) -> str:
    return str(_porter_stemmer().stemWord(word))


@lru_cache(maxsize=1)
def _porter_stemmer() -> Any:  # noqa: ANN401 - the package has no types
    try:
        import snowballstemmer
    except ImportError as error:
        raise ValueError(
            "WUPS needs the package snowballstemmer: pip install 'vidreason[eval]'"
        ) from error
    return snowballstemmer.stemmer("porter")
