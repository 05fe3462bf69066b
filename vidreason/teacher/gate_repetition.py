"""Repetitions within a draft: loops, steps said twice, predicted steps: the gate's sixth step."""

from collections.abc import Sequence

from vidreason.near_texts import MIN_WORDS, jaccard, normalised_words, text_shingles
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.gate_config import GateConfig

_SAME = 0.85
"""Similarity from which two steps say the same. A changed word takes three of the three-word
sequences, so that "left" for "right" is another step in all but the longest."""
_AGAIN = frozenset({"again", "another", "second", "third", "once", "more", "still"})
"""Words that make another event of the same words."""
_MAX_PERIOD = 10
"""Longest phrase, in words, of which loops are looked for."""
_COPIES = 4
"""Times that a phrase is said one after another in a loop."""


def repetition(draft: Draft, config: GateConfig) -> str | None:
    """Describe the first repetition in a draft; None for none."""
    steps = [_Said(step.text) for step in draft.steps]
    events = [_Said(item.event) for item in draft.predictions]
    for where, texts in (("step", steps), ("prediction", events)):
        for number, said in enumerate(texts, start=1):
            phrase = _looped_phrase(said.words)
            if phrase is not None:
                return f"loop: {where} {number} repeats {phrase[:60]!r}"
    everything = [word for said in steps for word in said.words]
    phrase = _looped_phrase(everything)
    if phrase is not None and len(phrase.split()) > 1:
        return f"loop: the steps repeat {phrase[:60]!r}"
    for number, said in enumerate(steps):
        earlier = [index for index in range(number) if said.same_as(steps[index])]
        if len(earlier) > _allowed(draft.steps, earlier, number, config):
            return f"repeated step: {number + 1} is {earlier[0] + 1} again"
    for number, said in enumerate(events):
        for index in range(number):
            if said.same_as(events[index]):
                return f"repeated prediction: {number + 1} is {index + 1} again"
        for index, step in enumerate(steps):
            if not config.predictions_may_repeat and said.same_as(step):
                return f"predicted step: prediction {number + 1} is step {index + 1}"
    return None


class _Said:
    """A text as it is compared: letter case and punctuation make no difference."""

    def __init__(self, text: str) -> None:
        self.words = normalised_words(text)
        self._shingles = text_shingles(self.words) if len(self.words) >= MIN_WORDS else None
        self._again = _AGAIN.intersection(self.words)

    def same_as(self, other: "_Said") -> bool:
        # Of a few words each matters: only equal ones say the same.
        if self._shingles is None or other._shingles is None:
            return self.words == other.words
        is_near = jaccard(self._shingles, other._shingles) >= _SAME
        return is_near and self._again == other._again


def _allowed(steps: Sequence[Step], earlier: Sequence[int], number: int, config: GateConfig) -> int:
    """Earlier steps that one may repeat: some where it tells of another time."""
    # Start and end of each of them: all must be known, and no two the same.
    times = {steps[index][1:] for index in (*earlier, number)}
    if (None, None) in times or len(times) <= len(earlier):
        return 0
    return config.max_repeats


def _looped_phrase(words: Sequence[str]) -> str | None:
    """A phrase that is said again and again without a word between; None for none."""
    # A loop has the same three words again; most texts have them nowhere.
    if len(set(zip(words, words[1:], words[2:], strict=False))) == max(len(words) - 2, 0):
        return None
    for period in range(1, _MAX_PERIOD + 1):
        run = 0
        for index in range(period, len(words)):
            # Words in a row that are those of one period before; the first copy comes on top.
            run = run + 1 if words[index] == words[index - period] else 0
            if run >= period * (_COPIES - 1):
                return " ".join(words[index + 1 - period : index + 1])
    return None
