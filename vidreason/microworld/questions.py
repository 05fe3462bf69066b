"""Questions about a rollout whose answers come from its event log.

Every template offers answers of one form, and each form's right answers are balanced over a split
(:func:`balance`), so that the text of a question says nothing about its answer.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vidreason.microworld.simulation import Rollout

NUM_OPTIONS = 5


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its right answer and, for multiple choice, the wrong ones."""

    template: str
    """Kind of question; balancing works within a template."""
    type: str
    """NExT-QA's type code for multiple choice, ActivityNet-QA's digit for open questions, Test of
    Time's category for those about time."""
    text: str
    answer: str
    distractors: tuple[str, ...] = ()
    answer_class: str = ""
    """Class that :func:`balance` counts; the answer itself if empty."""
    seen_at: tuple[float, float] | None = None
    """Times in seconds between which the answer can be seen; None if no time matters."""
    balance_over: tuple[str, ...] = ()
    """The answer classes in the proportion in which they shall be right (a class may stand several
    times), or empty when any object may be the answer."""

    @property
    def balanced_class(self) -> tuple[str, str]:
        """Template, and class of the answer."""
        return self.template, self.answer_class or self.answer


_T = TypeVar("_T")
_Q = TypeVar("_Q", bound=Question)


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question with its options in their final order."""

    question: Question
    options: tuple[str, ...]
    answer_index: int


def closed_question(
    template: str,
    type_code: str,
    text: str,
    answer: str,
    answers: Sequence[str],
    *,
    seen_at: tuple[float, float] | None = None,
) -> Question:
    """Make a question whose possible answers are always the same, each right equally often."""
    return Question(
        template=template,
        type=type_code,
        text=text,
        answer=answer,
        distractors=tuple(other for other in answers if other != answer),
        seen_at=seen_at,
        balance_over=tuple(answers),
    )


def count_per_video(rows: Iterable[tuple[str, _T]]) -> Iterator[tuple[str, int, _T]]:
    """Yield video id, number among the rows of its video, from 1, and row."""
    numbers: dict[str, int] = defaultdict(int)
    for video_id, row in rows:
        numbers[video_id] += 1
        yield video_id, numbers[video_id], row


def ask(
    rollouts: Mapping[str, Rollout],
    questions_about: Callable[[Rollout, random.Random], Iterator[_Q]],
    per_video: int,
    generator: random.Random,
) -> list[tuple[str, _Q]]:
    """Return balanced questions, at most ``per_video`` about a video, in random order.

    Args:
        rollouts: Video id -> what happens in it.
        questions_about: All questions about a rollout.
        per_video: The limit.
        generator: Draws the questions that stay, and their order.

    Returns:
        Questions, each with the id of its video.
    """
    every = [
        (video_id, question)
        for video_id, rollout in rollouts.items()
        for question in questions_about(rollout, generator)
    ]
    generator.shuffle(every)
    # Rare templates first: balancing leaves few of them, and the limit should not take them.
    balanced = balance(every, generator)
    frequency: dict[str, int] = defaultdict(int)
    for _, question in balanced:
        frequency[question.template] += 1
    balanced.sort(key=lambda pair: frequency[pair[1].template])
    limited = [
        (video_id, question)
        for video_id, number, question in count_per_video(balanced)
        if number <= per_video
    ]
    # The limit cut unevenly: balance once more.
    kept = balance(limited, generator)
    generator.shuffle(kept)
    return kept


def balance(questions: Iterable[tuple[str, _Q]], generator: random.Random) -> list[tuple[str, _Q]]:
    """Keep as many questions as leave the listed answers right in proportion."""
    groups: dict[tuple[str, str], list[tuple[str, _Q]]] = defaultdict(list)
    kept = []
    for video_id, question in questions:
        if question.balance_over:
            groups[question.balanced_class].append((video_id, question))
        else:
            kept.append((video_id, question))
    for key, number in _quotas(question for group in groups.values() for _, question in group):
        kept += generator.sample(groups[key], number)
    return kept


def kept_shares(questions: Iterable[Question]) -> dict[tuple[str, str], float]:
    """Return the share of each template's and class' questions that :func:`balance` keeps.

    Who keeps questions at random by these shares asks balanced ones over many videos, however few
    are drawn at a time.
    """
    questions = list(questions)
    counts = Counter(question.balanced_class for question in questions)
    return {key: number / counts[key] for key, number in _quotas(questions) if number}


def is_kept(
    question: Question, shares: Mapping[tuple[str, str], float], generator: random.Random
) -> bool:
    """Draw whether a question stays; :func:`kept_shares` gives the shares."""
    if not question.balance_over:
        return True
    return generator.random() < shares.get(question.balanced_class, 0.0)


def _quotas(questions: Iterable[Question]) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the numbers that leave the listed answers of each template right in proportion."""
    counts: Counter[tuple[str, str]] = Counter()
    expected: dict[str, tuple[str, ...]] = {}
    for question in questions:
        counts[question.balanced_class] += 1
        expected.setdefault(question.template, question.balance_over)
    for template, classes in expected.items():
        shares = {answer_class: classes.count(answer_class) for answer_class in classes}
        # The class that is rarest, for its share, decides for all of its template.
        quota = min((counts[template, key] // share for key, share in shares.items()), default=0)
        for key, share in shares.items():
            yield (template, key), quota * share


def arrange(
    questions: Sequence[tuple[str, Question]], generator: random.Random
) -> list[tuple[str, Choice]]:
    """Order the options so that the right one stands at each position equally often."""
    # The right option goes round, from a first position that is drawn for each template.
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


def touch(noun: str) -> str:
    """Return the verb that fits an object: squares push, the others hit."""
    return "push" if noun.endswith("square") else "hit"


def touched(noun: str) -> str:
    """Return the past tense of :func:`touch`."""
    return "pushed" if noun.endswith("square") else "hit"
