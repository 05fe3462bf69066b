"""What-if questions in CLEVRER's file format, answered by simulating the scene again.

Explanatory: what is an event due to? (Remove the object; does the event still happen?)
Predictive: what happens after the video's end? Counterfactual: what happens without an object?
Every choice is right or wrong by itself, as in the real corpus; any number may be right.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidreason.microworld.annotation_files import write_json
from vidreason.microworld.language import sentence, the
from vidreason.microworld.simulation import (
    COLORS,
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
_FOLDER_SIZE = 1000
_MAX_CHOICES = 4


def video_path(split: str, scene_index: int) -> str:
    """Return CLEVRER's path of a video: ``videos/train/video_00000-01000/video_00000.mp4``."""
    first = scene_index // _FOLDER_SIZE * _FOLDER_SIZE
    folder = f"video_{first:05d}-{first + _FOLDER_SIZE:05d}"
    return f"videos/{SPLIT_NAMES[split]}/{folder}/video_{scene_index:05d}.mp4"


def write_questions(
    folder: Path, split: str, rollouts: Sequence[Rollout], generator: random.Random
) -> None:
    """Write ``questions/<split>.json``; scenes are numbered from 0 within their split."""
    scenes = []
    for scene_index, rollout in enumerate(rollouts):
        questions = [
            question
            for body in rollout.scene.bodies
            for question in _what_if(rollout, body.color, generator)
        ]
        questions += _predictive(rollout, generator)
        for number, question in enumerate(questions):
            question["question_id"] = number
        scenes.append(
            {
                "scene_index": scene_index,
                "video_filename": Path(video_path(split, scene_index)).name,
                "questions": questions,
            }
        )
    write_json(folder / "questions" / f"{SPLIT_NAMES[split]}.json", scenes)


def _what_if(rollout: Rollout, removed: Color, generator: random.Random) -> list[dict[str, Any]]:
    """Return the counterfactual question about a body, and the explanatory one about its part."""
    try:
        without = simulate(rollout.scene.without(removed))
    except UnsettledSceneError:
        return []
    factual = [e for e in rollout.happened() if removed not in (e.subject, e.target)]
    happens = _sentences(rollout, without.happened())
    possible = _sentences(rollout, factual) | happens
    questions = []
    if len(possible) >= 2:
        choices = {event: event in happens for event in _sample(sorted(possible), generator)}
        text = f"what will happen if {the(rollout, removed)} is removed"
        questions.append(_question("counterfactual", text, choices))
    due = [event for event in factual if sentence(rollout, event) not in happens]
    if due:
        others = [b.color for b in rollout.scene.bodies if b.color not in (removed, due[0].subject)]
        choices = {f"the presence of {the(rollout, removed)}": True}
        for other in others:
            choices[f"the presence of {the(rollout, other)}"] = _is_needed(rollout, other, due[0])
        if len(choices) >= 2:
            effect = sentence(rollout, due[0])
            text = f"which of the following is responsible for this: {effect}"
            questions.append(_question("explanatory", text, choices))
    return questions


def _is_needed(rollout: Rollout, color: Color, event: Event) -> bool:
    """Return whether the event does not happen in the scene without that body."""
    if color in (event.subject, event.target):
        return True
    try:
        without = simulate(rollout.scene.without(color))
    except UnsettledSceneError:
        return False
    return sentence(rollout, event) not in _sentences(rollout, without.happened())


def _predictive(rollout: Rollout, generator: random.Random) -> list[dict[str, Any]]:
    """Ask what happens next; the wrong choice is the same kind of event."""
    future = rollout.happened(before=HORIZON_SECONDS, after=VIDEO_SECONDS)
    if not future:
        return []
    happens = _sentences(rollout, future)
    present = {body.color for body in rollout.scene.bodies}
    event = future[0]
    twisted = [
        Event(time=event.time, kind="leave", subject=color, side=side)
        for color in COLORS
        if color in present
        for side in SIDES
    ]
    wrong = sorted(_sentences(rollout, twisted) - happens)
    choices = {sentence(rollout, event): True, generator.choice(wrong): False}
    return [_question("predictive", "what will happen next", choices)]


def _sentences(rollout: Rollout, events: Sequence[Event]) -> set[str]:
    return {sentence(rollout, event) for event in events}


def _sample(choices: list[str], generator: random.Random) -> list[str]:
    return generator.sample(choices, min(len(choices), _MAX_CHOICES))


def _question(kind: str, text: str, choices: dict[str, bool]) -> dict[str, Any]:
    return {
        "question": text,
        "question_type": kind,
        "program": [],
        "choices": [
            {
                "choice_id": number,
                "choice": choice,
                "program": [],
                "answer": "correct" if right else "wrong",
            }
            for number, (choice, right) in enumerate(choices.items())
        ],
    }
