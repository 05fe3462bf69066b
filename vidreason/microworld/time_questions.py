"""Questions about order, duration and time, in the form of the suite Test of Time.

Some orders, durations and times are likelier than others for some kinds of events: objects enter
first. So a template is a kind of question about certain kinds of events, and within each the
answers are balanced.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from vidreason.microworld.annotation_files import write_json_lines
from vidreason.microworld.language import NUMBER_WORDS, sentence
from vidreason.microworld.questions import (
    Choice,
    Question,
    closed_question,
    count_per_video,
    touch,
)
from vidreason.microworld.simulation import VIDEO_SECONDS, Event, Rollout

PARTS = ("in the first third", "in the second third", "in the last third")
SECONDS = tuple(f"about {NUMBER_WORDS[n]} second{'s' * (n != 1)}" for n in (1, 2, 3))

_CLEAR_SECONDS = 0.3
"""Smallest distance of the truth from the border between two answers."""


def time_questions(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    """Yield all questions about time of a rollout, in a fixed order."""
    events = _unique_events(rollout)
    for earlier, later in combinations(events, 2):
        yield _order(rollout, earlier, later, generator)
        yield from _duration(rollout, earlier, later)
    for event in events:
        yield from _third(rollout, event)


def write_questions(folder: Path, split: str, choices: Sequence[tuple[str, Choice]]) -> None:
    """Write ``<split>.jsonl``; a question about an order becomes a minimal pair.

    Args:
        folder: The corpus' folder, which is created.
        split: ``val`` or ``test``.
        choices: Arranged :func:`time_questions`, each with the id of its video.
    """
    rows = (
        {**row, "video": video_id}
        for video_id, number, choice in count_per_video(choices)
        for row in _rows(f"{video_id}_{number}", choice)
    )
    write_json_lines(folder / f"{split}.jsonl", rows)


def _rows(name: str, choice: Choice) -> Iterator[dict[str, Any]]:
    forms = minimal_pair(choice)
    for form, ending in zip(forms, ("_first", "_last") if len(forms) == 2 else ("",), strict=True):
        yield {
            "id": name + ending,
            "category": form.question.type,
            "question": form.question.text,
            "options": form.options,
            "answer_index": form.answer_index,
            "start": None,
            "end": None,
            "source": "microworld",
            "minimal_pair_id": name if ending else None,
        }


def minimal_pair(choice: Choice) -> list[Choice]:
    """Return a question about an order, and which event happens last; any other question alone."""
    question = choice.question
    if question.type != "order":
        return [choice]
    index = 1 - choice.answer_index
    last = replace(
        question,
        text=question.text.replace("first", "last"),
        answer=choice.options[index],
        distractors=(question.answer,),
    )
    return [choice, Choice(last, choice.options, index)]


def _order(rollout: Rollout, earlier: Event, later: Event, generator: random.Random) -> Question:
    """Ask which of two events happens first."""
    # The relation of two events reads differently from either. The smaller reading names the
    # template, in which it is balanced whether its first event is the earlier one; where both
    # readings are the same, nothing in them tells the events apart.
    told, told_later = (_relation(rollout, *pair) for pair in ((earlier, later), (later, earlier)))
    if told == told_later:
        answer_class = generator.choice(("as told", "exchanged"))
    else:
        answer_class = "as told" if told < told_later else "exchanged"
    return Question(
        template=f"order/{min(told, told_later)}",
        type="order",
        text="which of the two happens first",
        answer=sentence(rollout, earlier),
        distractors=(sentence(rollout, later),),
        answer_class=answer_class,
        balance_over=("as told", "exchanged"),
    )


def _duration(rollout: Rollout, earlier: Event, later: Event) -> Iterator[Question]:
    """Ask how long it takes from one event to another, in whole seconds."""
    seconds = later.time - earlier.time
    whole = round(seconds)
    # Clearly nearer to that number of seconds than to the next.
    if 1 <= whole <= len(SECONDS) and abs(seconds - whole) < 0.5 - _CLEAR_SECONDS:
        first, second = (sentence(rollout, event) for event in (earlier, later))
        yield closed_question(
            f"duration/{_kind(rollout, earlier)}/{_kind(rollout, later)}",
            "duration",
            f"how long does it take from this: {first} to this: {second}",
            SECONDS[whole - 1],
            SECONDS,
        )


def _third(rollout: Rollout, event: Event) -> Iterator[Question]:
    """Ask in which third of the video an event happens."""
    third = VIDEO_SECONDS / len(PARTS)
    answer = PARTS[int(event.time // third)]
    is_clear = all(abs(event.time - third * n) > _CLEAR_SECONDS for n in range(1, len(PARTS)))
    if is_clear:
        yield closed_question(
            f"localization/{_kind(rollout, event)}",
            "localization",
            f"when in the video does this happen: {sentence(rollout, event)}",
            answer,
            PARTS,
        )


def _unique_events(rollout: Rollout) -> list[Event]:
    """Return the events of the video whose sentence is unique, in time order."""
    events = rollout.happened()
    texts = [sentence(rollout, event) for event in events]
    return [event for event, text in zip(events, texts, strict=True) if texts.count(text) == 1]


def _kind(rollout: Rollout, event: Event) -> str:
    """Return the kind of event, and what tells how its subject moves on: squares push."""
    return f"{event.kind} {touch(rollout.body(event.subject).shape)}"


def _relation(rollout: Rollout, one: Event, other: Event) -> tuple[str, ...]:
    """Return the kinds of two events, which objects their sentences share, and their sides.

    What enters at one side and hits something makes that leave at the opposite one.
    """
    shared = (
        one.subject == other.subject,
        one.target == other.subject,
        one.subject == other.target,
        one.target is not None and one.target == other.target,
    )
    # Contacts have no side: None, which is the same for two of them.
    sides = {one.side, other.side}
    opposite = sides in ({"left", "right"}, {"top", "bottom"})
    across = "opposite" if opposite else "same" if len(sides) == 1 else "other"
    return _kind(rollout, one), _kind(rollout, other), *map(str, shared), across
