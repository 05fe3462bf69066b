"""Questions about a rollout whose answers come from its event log.

Every template offers answers of one form, and each form's right answers are balanced over a split
(:func:`balance`), so that the text of a question says nothing about its answer.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from vidreason.microworld.language import heading
from vidreason.microworld.simulation import (
    VIDEO_SECONDS,
    Color,
    Rollout,
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its right answer and, for multiple choice, four wrong ones."""

    template: str
    """Which kind of question it is; balancing works within a template."""
    type: str
    """NExT-QA's type code for multiple choice, ActivityNet-QA's digit for open questions."""
    text: str
    answer: str
    distractors: tuple[str, ...] = ()
    answer_class: str = ""
    """What :func:`balance` counts; the answer itself when empty."""
    balance_over: tuple[str, ...] = ()
    """The answer classes in the proportion in which they shall be right (a class may stand several
    times), or empty when any object may be the answer."""


def balance(
    questions: Iterable[tuple[str, Question]], generator: random.Random
) -> list[tuple[str, Question]]:
    """Keep as many ``(video_id, question)`` as leave the listed answers right in proportion."""
    groups: dict[str, dict[str, list[tuple[str, Question]]]] = defaultdict(
        lambda: defaultdict(list)
    )
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


def touching(subject: str) -> str:
    """The verb that fits an object: squares push, the others hit."""
    return "pushed" if subject.endswith("square") else "hit"


def moved(rollout: Rollout, color: Color) -> bool:
    """Whether the body moves at any time of the video."""
    return any(
        segment.time < VIDEO_SECONDS and heading(*segment.states[color][2:]) is not None
        for segment in rollout.segments
    )
