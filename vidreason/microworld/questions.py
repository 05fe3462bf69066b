"""Questions about a rollout whose answers come from its event log.

Every template offers answers of one form, and each form's right answers are balanced over a split
(:func:`balance`), so that the text of a question says nothing about its answer.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vidreason.microworld.language import heading
from vidreason.microworld.simulation import (
    VIDEO_SECONDS,
    Color,
    Rollout,
)

NUM_OPTIONS = 5


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its right answer and, for multiple choice, the wrong ones."""

    template: str
    """Which kind of question it is; balancing works within a template."""
    type: str
    """NExT-QA's type code for multiple choice, ActivityNet-QA's digit for open questions, Test of
    Time's category for those about time."""
    text: str
    answer: str
    distractors: tuple[str, ...] = ()
    answer_class: str = ""
    """What :func:`balance` counts; the answer itself when empty."""
    seen_at: tuple[float, float] | None = None
    """Times in seconds between which the answer can be seen; None where it is no matter of time."""
    balance_over: tuple[str, ...] = ()
    """The answer classes in the proportion in which they shall be right (a class may stand several
    times), or empty when any object may be the answer."""


_Q = TypeVar("_Q", bound=Question)


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question with its options in their final order."""

    question: Question
    options: tuple[str, ...]
    answer_index: int


def ask(
    rollouts: Mapping[str, Rollout],
    questions_about: Callable[[Rollout, random.Random], Iterator[_Q]],
    per_video: int,
    generator: random.Random,
) -> list[tuple[str, _Q]]:
    """Balanced questions, at most ``per_video`` about a video, in random order.

    Args:
        rollouts: Video id -> what happens in it.
        questions_about: All questions about a rollout.
        per_video: The limit.
        generator: Draws what is left, and the order.

    Returns:
        Questions, each with the id of its video.
    """
    every = [
        (video_id, question)
        for video_id, rollout in rollouts.items()
        for question in questions_about(rollout, generator)
    ]
    generator.shuffle(every)
    asked: dict[str, int] = defaultdict(int)
    kept = []
    # Rare templates first: balancing leaves few of them, and they should not fall to the limit.
    balanced = balance(every, generator)
    frequency: dict[str, int] = defaultdict(int)
    for _, question in balanced:
        frequency[question.template] += 1
    balanced.sort(key=lambda pair: frequency[pair[1].template])
    for video_id, question in balanced:
        if asked[video_id] < per_video:
            asked[video_id] += 1
            kept.append((video_id, question))
    # The limit cut unevenly; balance what is left once more.
    kept = balance(kept, generator)
    generator.shuffle(kept)
    return kept


def balance(questions: Iterable[tuple[str, _Q]], generator: random.Random) -> list[tuple[str, _Q]]:
    """Keep as many ``(video_id, question)`` as leave the listed answers right in proportion."""
    groups: dict[str, dict[str, list[tuple[str, _Q]]]] = defaultdict(lambda: defaultdict(list))
    kept = []
    for video_id, question in questions:
        if question.balance_over:
            answer_class = question.answer_class or question.answer
            groups[question.template][answer_class].append((video_id, question))
        else:
            kept.append((video_id, question))
    for by_class in groups.values():
        expected = next(iter(by_class.values()))[0][1].balance_over
        shares = {answer_class: expected.count(answer_class) for answer_class in expected}
        quota = min(len(by_class[key]) // share for key, share in shares.items())
        for key, share in shares.items():
            kept += generator.sample(by_class[key], quota * share)
    return kept


def arrange(
    questions: Sequence[tuple[str, Question]], generator: random.Random
) -> list[tuple[str, Choice]]:
    """Put the options in order so that the right one stands at each position equally often."""
    positions: dict[str, int] = defaultdict(lambda: generator.randrange(NUM_OPTIONS))
    arranged = []
    for video_id, question in questions:
        num_options = min(NUM_OPTIONS, 1 + len(question.distractors))
        position = positions[question.template] % num_options
        positions[question.template] += 1
        options = generator.sample(question.distractors, num_options - 1)
        options.insert(position, question.answer)
        arranged.append((video_id, Choice(question, tuple(options), position)))
    return arranged


def touching(subject: str) -> str:
    """The verb that fits an object: squares push, the others hit."""
    return "pushed" if subject.endswith("square") else "hit"


def moved(rollout: Rollout, color: Color) -> bool:
    """Whether the body moves at any time of the video."""
    return any(
        segment.time < VIDEO_SECONDS and heading(*segment.states[color][2:]) is not None
        for segment in rollout.segments
    )
