"""Questions about order, duration and place in time, in the form of the suite Test of Time.

Some orders, durations and times are likelier than others for some kinds of events: what enters
comes first. So a template is not only what is asked, but also of which kinds the events are, and
within each the answers are balanced.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from vidreason.microworld.language import NUMBER_WORDS, sentence
from vidreason.microworld.questions import Choice, Question
from vidreason.microworld.simulation import VIDEO_SECONDS, Event, Rollout

PARTS = ("in the first third", "in the second third", "in the last third")
SECONDS = tuple(f"about {NUMBER_WORDS[n]} second{'s' * (n != 1)}" for n in (1, 2, 3))

_CLEAR_SECONDS = 0.3
"""How far from the border between two answers the truth must lie."""
# In the remaining part an event of the kind hardly ever happens: it would be no option.
_POSSIBLE_PARTS = {"enter": PARTS[:2], "contact": PARTS[:2], "block": PARTS[:2], "leave": PARTS[1:]}


def time_questions(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    """All questions about time that can be asked about a rollout, in a fixed order."""
    events = _told_once(rollout)
    for earlier, later in combinations(events, 2):
        yield _order(rollout, earlier, later, generator)
        yield from _duration(rollout, earlier, later)
    for event in events:
        yield from _place_in_time(rollout, event)


def write_questions(folder: Path, split: str, choices: Sequence[tuple[str, Choice]]) -> None:
    """Write ``<split>.jsonl``; a question about an order becomes a minimal pair.

    Args:
        folder: The corpus' folder, which is made.
        split: ``val`` or ``test``.
        choices: Arranged :func:`time_questions`, each with the id of its video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, int] = defaultdict(int)
    with (folder / f"{split}.jsonl").open("w") as file:
        for video_id, choice in choices:
            numbers[video_id] += 1
            name = f"{video_id}_{numbers[video_id]}"
            for row in _rows(name, choice):
                file.write(json.dumps({**row, "video": video_id}) + "\n")


def _rows(name: str, choice: Choice) -> Iterator[dict[str, Any]]:
    question = choice.question
    row = {
        "id": name,
        "category": question.type,
        "question": question.text,
        "options": choice.options,
        "answer_index": choice.answer_index,
        "start": None,
        "end": None,
        "source": "microworld",
        "minimal_pair_id": None,
    }
    if question.type != "order":
        yield row
        return
    row["minimal_pair_id"] = name
    yield {**row, "id": f"{name}_first"}
    yield {
        **row,
        "id": f"{name}_last",
        "question": question.text.replace("first", "last"),
        "answer_index": 1 - choice.answer_index,
    }


def _order(rollout: Rollout, earlier: Event, later: Event, generator: random.Random) -> Question:
    """Which of two events happens first."""
    told, told_later = _relation(earlier, later), _relation(later, earlier)
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
    """How long it takes from one event to another, in whole seconds."""
    seconds = later.time - earlier.time
    whole = round(seconds)
    if 1 <= whole <= len(SECONDS) and abs(seconds - whole) < 0.5 - _CLEAR_SECONDS:
        first, second = (sentence(rollout, event) for event in (earlier, later))
        yield Question(
            template=f"duration/{_kind(earlier)}/{_kind(later)}",
            type="duration",
            text=f"how long does it take from this: {first} to this: {second}",
            answer=SECONDS[whole - 1],
            distractors=tuple(other for other in SECONDS if other != SECONDS[whole - 1]),
            balance_over=SECONDS,
        )


def _place_in_time(rollout: Rollout, event: Event) -> Iterator[Question]:
    """In which third of the video an event happens."""
    third = VIDEO_SECONDS / len(PARTS)
    answer = PARTS[int(event.time // third)]
    possible = _POSSIBLE_PARTS[_kind(event)]
    is_clear = all(abs(event.time - third * n) > _CLEAR_SECONDS for n in range(1, len(PARTS)))
    if is_clear and answer in possible:
        yield Question(
            template=f"localization/{_kind(event)}",
            type="localization",
            text=f"when in the video does this happen: {sentence(rollout, event)}",
            answer=answer,
            distractors=tuple(part for part in possible if part != answer),
            balance_over=possible,
        )


def _told_once(rollout: Rollout) -> list[Event]:
    """The events of the video whose words tell them from all others, in time order."""
    events = rollout.happened()
    told = [sentence(rollout, event) for event in events]
    return [event for event, words in zip(events, told, strict=True) if told.count(words) == 1]


def _kind(event: Event) -> str:
    return "contact" if event.kind in ("hit", "push") else event.kind


def _relation(one: Event, other: Event) -> tuple[str, ...]:
    """What the words tell of an event and another: their kinds, and which objects they share."""
    shared = (
        one.subject == other.subject,
        one.target == other.subject,
        one.subject == other.target,
        one.target is not None and one.target == other.target,
    )
    return _kind(one), _kind(other), *map(str, shared)
