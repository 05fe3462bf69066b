"""Counts of what a teacher writes, by source and scenario, beside the sources' annotations.

The paper names the teacher's biases as a limit of its set; this shows them: which verbs and objects
it prefers, how long it writes, which confidences it prints, and whose clips it refuses. Memory
grows with the number of different words, not with that of the rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import isnan, sqrt
from typing import Literal

from vidreason.evaluation.statistics.intervals import Interval
from vidreason.teacher.draft import Draft
from vidreason.teacher.journal_records import Ended
from vidreason.teacher.log_odds import NUM_DEVIATIONS
from vidreason.teacher.words import verbs_and_objects, words

WordKind = Literal["verbs", "objects"]
MAX_SCENARIOS = 200
"""Scenarios of a source that are counted by themselves, the first that come; the rest together."""
OTHER_SCENARIOS = "(other scenarios)"
MAX_DIFFERENT_WORDS = 50_000
"""Different words of a kind that are counted; further ones, as of a broken teacher, are not."""
DISTINCT_WORDS = 5_000
"""Words over which the share of different ones is taken: longer texts repeat more."""


class DistinctNGrams:
    """Share of different words and pairs of words in stretches of ``DISTINCT_WORDS`` words."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._sums = [0.0, 0.0]
        self._num_stretches = 0

    def add(self, text: list[str]) -> None:
        """Count the words of one text."""
        self._words += text
        while len(self._words) >= DISTINCT_WORDS:
            self._count(self._words[:DISTINCT_WORDS])
            self._words = self._words[DISTINCT_WORDS:]

    def shares(self) -> tuple[float, float, int]:
        """Share of different words, that of pairs, and the words of a stretch.

        Of texts that have not enough words together, it is that of the one stretch there is.
        """
        if self._num_stretches:
            first, second = (total / self._num_stretches for total in self._sums)
            return first, second, DISTINCT_WORDS
        return *_distinct(self._words), len(self._words)

    def _count(self, stretch: list[str]) -> None:
        for index, share in enumerate(_distinct(stretch)):
            self._sums[index] += share
        self._num_stretches += 1


def _distinct(stretch: list[str]) -> tuple[float, float]:
    pairs = set(pairwise(stretch))
    return (
        len(set(stretch)) / len(stretch) if stretch else 0.0,
        len(pairs) / (len(stretch) - 1) if len(stretch) > 1 else 0.0,
    )


class TextCounts:
    """Words of a body of texts: a teacher's explanations, or annotations.

    Attributes:
        num_texts: Texts that have a word.
        num_words: Texts by their number of words.
        verbs: Texts by the verbs in them.
        objects: Texts by the objects in them.
        distinct: Share of different words.
    """

    def __init__(self) -> None:
        self.num_texts = 0
        self.num_words: Counter[int] = Counter()
        self.verbs: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()
        self.distinct = DistinctNGrams()

    def add(self, text: str) -> set[str]:
        """Count one text; return its verbs."""
        text_words = words(text)
        verbs, objects = map(set, verbs_and_objects(text))
        self.num_texts += bool(text_words)
        self.num_words[len(text_words)] += 1
        self.distinct.add(text_words)
        _count_once(self.verbs, verbs)
        _count_once(self.objects, objects)
        return verbs


def _count_once(counts: Counter[str], found_words: Iterable[str]) -> None:
    """Each word once a text: a text that repeats one says nothing more."""
    # When it is full, known words are counted on, and new ones no longer.
    is_full = len(counts) >= MAX_DIFFERENT_WORDS
    counts.update(word for word in found_words if not is_full or word in counts)


class GroupCounts:
    """Counts of a source, or of a scenario of it.

    Attributes:
        endings: Clips by how they ended: ``accepted``, or the cause of a rejection or failure.
        num_steps: Accepted answers by their number of steps.
        num_compared: Accepted answers whose annotation has a verb.
        num_agreeing: Those of them whose explanation has one of these verbs.
    """

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.num_steps: Counter[int] = Counter()
        self.num_words: Counter[int] = Counter()
        self.num_compared = 0
        self.num_agreeing = 0

    @property
    def num_clips(self) -> int:
        """Clips in all."""
        return self.endings.total()


class SourceCounts(GroupCounts):
    """Counts of a source.

    Attributes:
        answers: Words of the explanations.
        references: Words of the annotations of the same clips.
        confidences: Accepted answers by the first confidence that they give, as it is written.
        num_without_confidence: Accepted answers with a prediction and no confidence.
        scenarios: Counts by scenario.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers = TextCounts()
        self.references = TextCounts()
        self.confidences: Counter[float] = Counter()
        self.num_without_confidence = 0
        self.scenarios: dict[str, GroupCounts] = {}

    def scenario(self, name: str) -> GroupCounts:
        """Counts of a scenario."""
        if name not in self.scenarios and len(self.scenarios) >= MAX_SCENARIOS:
            name = OTHER_SCENARIOS
        return self.scenarios.setdefault(name, GroupCounts())


class BiasCounts:
    """Counts of a run, by source."""

    def __init__(self) -> None:
        self.sources: dict[str, SourceCounts] = {}

    def add(self, ended: Ended, ending: str, draft: Draft | None) -> None:
        """Count a clip.

        Args:
            ended: The clip.
            ending: ``accepted``, or the cause of its rejection or failure.
            draft: The answer, where it is in the set.
        """
        source = self.sources.setdefault(ended.clip.source, SourceCounts())
        groups = (source, source.scenario(ended.clip.scenario))
        for group in groups:
            group.endings[ending] += 1
        if draft is None:
            return
        explanation = " ".join(step.text for step in draft.steps)
        verbs = source.answers.add(explanation)
        reference = ended.clip.reference
        # Only of clips that were answered, so that both bodies are about the same events.
        reference_verbs = source.references.add(reference) if reference else set()
        num_words = len(words(explanation))
        for group in groups:
            group.num_steps[len(draft.steps)] += 1
            group.num_words[num_words] += 1
            group.num_compared += bool(reference_verbs)
            group.num_agreeing += bool(reference_verbs & verbs)
        # The first one alone, which is the likeliest.
        if draft.predictions:
            confidence = draft.predictions[0].confidence
            if isnan(confidence):
                source.num_without_confidence += 1
            else:
                source.confidences[round(confidence, 2)] += 1


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The smallest number that at least ``share`` of all counted numbers do not exceed."""
    total, so_far = sum(counts.values()), 0
    for number, count in sorted(counts.items()):
        so_far += count
        if so_far >= share * total:
            return number
    return 0


def wilson(count: int, total: int) -> Interval:
    """A share with Wilson's 95% interval, as if the clips were independent; NaN bounds of none."""
    if not total:
        return Interval(float("nan"), float("nan"), float("nan"))
    share, z = count / total, NUM_DEVIATIONS
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))
