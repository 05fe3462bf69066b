"""What-if questions in CLEVRER's file format, answered by simulating the scene again.

Explanatory: what is an event due to? (Remove the object; does the event still happen?)
Predictive: what happens after the video's end? Counterfactual: what happens without an object?
Every choice is right or wrong by itself, as in the real corpus; any number may be right.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from vidreason.microworld.annotation_files import write_json
from vidreason.microworld.language import sentence, the
from vidreason.microworld.simulation import (
    HORIZON_SECONDS,
    SIDES,
    VIDEO_SECONDS,
    Color,
    Event,
    Rollout,
    UnsettledSceneError,
    simulate,
)

SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}
_FOLDER_SIZE = 1000  # videos
_MAX_DRAWN = 4  # of the possible ones, at most


def video_path(split: str, scene_index: int) -> str:
    """Return CLEVRER's path of a video: ``videos/train/video_00000-01000/video_00000.mp4``."""
    first = scene_index // _FOLDER_SIZE * _FOLDER_SIZE
    folder = f"video_{first:05d}-{first + _FOLDER_SIZE:05d}"
    return f"videos/{SPLIT_NAMES[split]}/{folder}/video_{scene_index:05d}.mp4"


def write_questions(
    folder: Path, split: str, rollouts: Mapping[int, Rollout], generator: random.Random
) -> None:
    """Write ``questions/<split>.json``, given what happens in each scene by its index."""
    questions = _questions(list(rollouts.values()), generator)
    scenes = [
        {
            "scene_index": scene_index,
            "video_filename": Path(video_path(split, scene_index)).name,
            "questions": [
                {**draft.question(), "question_id": number} for number, draft in enumerate(kept)
            ],
        }
        for scene_index, kept in zip(rollouts, questions, strict=True)
    ]
    write_json(folder / "questions" / f"{SPLIT_NAMES[split]}.json", scenes)


def statements(
    rollouts: Sequence[Rollout], generator: random.Random
) -> Iterator[tuple[int, str, str, bool]]:
    """Yield the choices of all questions: index of the rollout, question, choice, and its truth."""
    for index, questions in enumerate(_questions(rollouts, generator)):
        for question in questions:
            for choice in question.choices:
                yield index, question.text, choice.text, choice.is_right


@dataclass(frozen=True)
class _Choice:
    text: str
    form: str
    """Kind of choice, within which right and wrong are balanced."""
    is_right: bool


@dataclass(frozen=True)
class _Draft:
    """A question before its choices are balanced."""

    kind: str
    text: str
    choices: tuple[_Choice, ...]

    def question(self) -> dict[str, Any]:
        """Return the question in CLEVRER's form."""
        return {
            "question": self.text,
            "question_type": self.kind,
            "program": [],
            "choices": [
                {
                    "choice_id": number,
                    "choice": choice.text,
                    "program": [],
                    "answer": "correct" if choice.is_right else "wrong",
                }
                for number, choice in enumerate(self.choices)
            ],
        }


def _questions(rollouts: Sequence[Rollout], generator: random.Random) -> list[list[_Draft]]:
    """Return the questions about each rollout, with choices that are balanced over all of them."""
    drafts = [
        [
            *(d for body in rollout.scene.bodies for d in _what_if(rollout, body.color, generator)),
            *_predictive(rollout, generator),
        ]
        for rollout in rollouts
    ]
    return _balanced(drafts, generator)


def _balanced(drafts: Sequence[list[_Draft]], generator: random.Random) -> list[list[_Draft]]:
    """Leave out choices until each form of each kind of question is right half of the time.

    Else a text says much about its answer: an object enters whether or not another is removed.
    A question stays with at least one choice.
    """
    # Scene, question and position of each choice, by kind and form, the right ones apart.
    cells: dict[tuple[str, str], dict[bool, list[tuple[int, int, int]]]] = defaultdict(
        lambda: {True: [], False: []}
    )
    for scene, of_scene in enumerate(drafts):
        for number, draft in enumerate(of_scene):
            for position, choice in enumerate(draft.choices):
                cells[draft.kind, choice.form][choice.is_right].append((scene, number, position))
    kept: set[tuple[int, int, int]] = set()
    for cell in cells.values():
        # As many right as wrong ones stay; a form that is never wrong, or never right, goes.
        quota = min(map(len, cell.values()))
        for positions in cell.values():
            kept.update(generator.sample(positions, quota))
    balanced = []
    for scene, of_scene in enumerate(drafts):
        questions = []
        for number, draft in enumerate(of_scene):
            choices = tuple(
                choice
                for position, choice in enumerate(draft.choices)
                if (scene, number, position) in kept
            )
            if choices:
                questions.append(replace(draft, choices=choices))
        balanced.append(questions)
    return balanced


def _what_if(rollout: Rollout, removed: Color, generator: random.Random) -> Iterator[_Draft]:
    """Yield the counterfactual question about a body, and the explanatory one about its part."""
    try:
        without = simulate(rollout.scene.without(removed))
    except UnsettledSceneError:
        # Nobody can say what happens in a scene that jams.
        return
    # Without the body nothing can happen to it or by it: that would be no question.
    factual = [e for e in rollout.happened() if removed not in (e.subject, e.target)]
    # By sentence: two events that read alike are one choice.
    happens = {sentence(rollout, event): event for event in without.happened()}
    possible = {sentence(rollout, event): event for event in factual} | happens
    # Besides, events that happen neither way.
    colors = [body.color for body in rollout.scene.bodies if body.color != removed]
    twisted = [twist for event in possible.values() for twist in _twists(rollout, event, colors)]
    never = {sentence(rollout, event): event for event in twisted}
    # Sorted, as a set of texts has another order in each process.
    drawn = _sample(sorted(possible), generator)
    drawn += generator.sample(sorted(never.keys() - possible), 1) if never.keys() - possible else []
    choices = [_Choice(text, (never | possible)[text].kind, text in happens) for text in drawn]
    generator.shuffle(choices)
    if choices:
        text = f"what will happen if {the(rollout, removed)} is removed"
        yield _Draft("counterfactual", text, tuple(choices))
    due = [event for event in factual if sentence(rollout, event) not in happens]
    if due:
        # Those that take part in the event themselves are no question.
        others = [
            body.color
            for body in rollout.scene.bodies
            if body.color not in (due[0].subject, due[0].target)
        ]
        choices = [
            _Choice(
                f"the presence of {the(rollout, other)}",
                due[0].kind,
                other == removed or _is_needed(rollout, other, due[0]),
            )
            for other in others
        ]
        text = f"which of the following is responsible for this: {sentence(rollout, due[0])}"
        yield _Draft("explanatory", text, tuple(choices))


def _is_needed(rollout: Rollout, color: Color, event: Event) -> bool:
    """Return whether the event does not happen in the scene without that body."""
    try:
        without = simulate(rollout.scene.without(color))
    except UnsettledSceneError:
        # A scene that jams tells nothing, and the choice counts as wrong.
        return False
    return sentence(rollout, event) not in {sentence(rollout, e) for e in without.happened()}


def _predictive(rollout: Rollout, generator: random.Random) -> Iterator[_Draft]:
    """Ask what happens next; the wrong choice is the same kind of event with other objects."""
    event = rollout.next_event()
    if event is None:
        return
    # What comes later, up to the horizon, would be no wrong choice.
    happens = {sentence(rollout, e) for e in rollout.happened(HORIZON_SECONDS, after=VIDEO_SECONDS)}
    present = [b.color for b in rollout.scene.bodies if rollout.present(b.color, VIDEO_SECONDS)]
    twisted = _twists(rollout, event, present)
    wrong = sorted({sentence(rollout, other) for other in twisted} - happens)
    if wrong:
        choices = {sentence(rollout, event): True, generator.choice(wrong): False}
        yield _Draft(
            "predictive",
            "what will happen next",
            tuple(_Choice(text, event.kind, is_right) for text, is_right in choices.items()),
        )


def _twists(rollout: Rollout, event: Event, colors: Sequence[Color]) -> list[Event]:
    """Return events of the same kind with other objects or sides."""
    sides: tuple[str | None, ...] = (None,) if event.side is None else SIDES
    targets: list[Color | None] = [None] if event.target is None else [*colors]
    return [
        # Only a body that touches in that way can take the subject's part.
        replace(event, subject=subject, target=target, side=side)
        for subject, target, side in product(colors, targets, sides)
        if subject != target and (event.target is None or _touches(rollout, subject, event.kind))
    ]


def _touches(rollout: Rollout, color: Color, kind: str) -> bool:
    """Return whether the body's touch is of that kind: squares push, the others hit."""
    return (kind == "push") == (rollout.body(color).shape == "square")


def _sample(choices: list[str], generator: random.Random) -> list[str]:
    return generator.sample(choices, min(len(choices), _MAX_DRAWN))
