"""Next-event prediction as multiple choice: the clip before, and four events of which one comes.

Questions come in groups of four about two videos, two moments of each. All four have the same
options: the event that came next at each of the moments. So the wrong options are another moment of
the same video and events of another video in similar words; and whatever looks at the words alone
is right once in each group, at chance, because each option is right once and stands in the same
position every time. Length, frequency, order and word overlap tell nothing by construction.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from data_modules.continuation import Continuation, say_the_same
from data_modules.skipped_rows import SkippedRows
from vidreason.near_texts import normalised_words

QUESTION = "What happens next?"
NUM_OPTIONS = 4
NO_SECOND = "its video has no second moment that is far enough from it and says something else"
NO_OTHER = "no other video is left whose events can stand beside it"

_NUM_CANDIDATES = 200  # pairs that are compared with a pair


class _Pair(NamedTuple):
    """Two moments of one video."""

    first: Continuation
    second: Continuation

    @property
    def texts(self) -> tuple[str, str]:
        return self.first.target.text, self.second.target.text


def continuation_benchmark(
    continuations: Iterable[Continuation],
    horizon_seconds: float,
    seed: int,
    skipped: SkippedRows,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a benchmark that the reader ``huggingface`` reads, four by four.

    Fields: ``id``, ``media``, ``video_id``, ``start_seconds``, ``end_seconds``, ``prompt``,
    ``options``, ``answer_index``, ``question_type`` (the corpus), and ``group_id``, which the four
    questions of the same options share.

    Args:
        continuations: Of test videos; they are held in memory.
        horizon_seconds: Least time between two moments of a video: what comes later than this does
            not answer what comes next.
        seed: Of the order of options, and of which moments stand together.
        skipped: Counts the continuations that are in no question.
    """
    generator = random.Random(seed)
    pairs = _pairs(continuations, horizon_seconds, generator, skipped)
    for number, (one, other) in enumerate(_matched(pairs, generator, skipped)):
        moments = [*one, *other]
        options = [moment.target.text for moment in moments]
        # One order for all four rows: only the video tells which option is right.
        order = generator.sample(range(NUM_OPTIONS), NUM_OPTIONS)
        for index, moment in enumerate(moments):
            skipped.num_read += 1
            yield {
                "id": moment.clip.id,
                "media": moment.clip.media,
                "video_id": moment.clip.video_id,
                "start_seconds": moment.clip.start_seconds,
                "end_seconds": moment.clip.end_seconds,
                "prompt": QUESTION,
                "options": [options[position] for position in order],
                "answer_index": order.index(index),
                "question_type": moment.clip.source,
                "group_id": f"{number}",
            }


def accuracy_by_length(rows: Sequence[dict[str, Any]], *, longest: bool) -> float:
    """Share of questions that the longest, or the shortest, option answers; NaN for none."""
    choose = max if longest else min
    right = 0.0
    for row in rows:
        lengths = [len(option) for option in row["options"]]
        best = [index for index, length in enumerate(lengths) if length == choose(lengths)]
        # Of options of one length, one is guessed.
        right += (row["answer_index"] in best) / len(best)
    return right / len(rows) if rows else float("nan")


def _pairs(
    continuations: Iterable[Continuation],
    horizon_seconds: float,
    generator: random.Random,
    skipped: SkippedRows,
) -> list[_Pair]:
    by_video: dict[tuple[str, str], list[Continuation]] = defaultdict(list)
    for moment in continuations:
        by_video[moment.clip.source, moment.clip.video_id].append(moment)
    pairs = []
    for moments in by_video.values():
        # A moment goes with the first that may pair with it, in a random order, and with no other.
        unused = generator.sample(moments, len(moments))
        while unused:
            first = unused.pop()
            second = next(
                (m for m in unused if _may_pair(first, m, moments, horizon_seconds)), None
            )
            if second is None:
                skipped.record(first.clip.id, NO_SECOND)
                continue
            unused.remove(second)
            pairs.append(_Pair(first, second))
    return generator.sample(pairs, len(pairs))


def _may_pair(
    first: Continuation, second: Continuation, moments: Sequence[Continuation], horizon: float
) -> bool:
    """Return whether neither moment's event follows the other's clip as well."""
    return not (
        _comes_near(first, second.target.text, moments, horizon)
        or _comes_near(second, first.target.text, moments, horizon)
        or abs(first.target.start_seconds - second.target.start_seconds) <= horizon
    )


def _comes_near(
    moment: Continuation, text: str, moments: Sequence[Continuation], horizon: float
) -> bool:
    """Return whether an event is annotated soon after a moment, by whatever words."""
    start = moment.target.start_seconds
    return any(
        start <= other.target.start_seconds <= start + horizon
        and say_the_same(other.target.text, text)
        for other in moments
    )


def _matched(
    pairs: list[_Pair], generator: random.Random, skipped: SkippedRows
) -> Iterator[tuple[_Pair, _Pair]]:
    """Each pair with one of another video that says it in similar words, each once."""
    words = [set(normalised_words(" ".join(pair.texts))) for pair in pairs]
    counts = Counter(word for one in words for word in one)
    # From each word to the pairs that have it.
    by_word: dict[str, list[int]] = defaultdict(list)
    for number, of_pair in enumerate(words):
        for word in of_pair:
            by_word[word].append(number)
    unused = set(range(len(pairs)))
    for number, pair in enumerate(pairs):
        if number not in unused:
            continue
        unused.remove(number)
        # Rare words first: those of every text find nothing.
        shared: Counter[int] = Counter()
        for word in sorted(words[number], key=lambda word: (counts[word], word)):
            for candidate in by_word[word][:_NUM_CANDIDATES]:
                if candidate in unused:
                    shared[candidate] += 1
            if len(shared) >= _NUM_CANDIDATES:
                break
        # Those that share most of the rare words; then some others, so that few pairs are left
        # without one.
        nearest = [candidate for candidate, _ in shared.most_common()]
        others = generator.sample(sorted(unused), min(len(unused), 20))
        match = next((n for n in [*nearest, *others] if _may_match(pair, pairs[n])), None)
        if match is None:
            for moment in pair:
                skipped.record(moment.clip.id, NO_OTHER)
            continue
        unused.remove(match)
        yield pair, pairs[match]


def _may_match(one: _Pair, other: _Pair) -> bool:
    if one.first.clip.video_id == other.first.clip.video_id:
        return False
    texts = (*one.texts, *other.texts)
    return not any(say_the_same(text, another) for text, another in combinations(texts, 2))
