"""The microworld's English: names of objects, positions, events, causes and predictions."""

import random
from collections import Counter

from vidreason.microworld.scenes import perturbed_futures
from vidreason.microworld.simulation import (
    ARENA,
    HORIZON_SECONDS,
    VIDEO_SECONDS,
    Body,
    Color,
    Event,
    Rollout,
)

MOVING_SPEED = 1.0
"""World units a second below which an object counts as resting."""
NUM_FUTURES = 20
"""Number of perturbed futures that a confidence is a share of."""

DIRECTIONS = ("left", "right", "above", "below")
_CLEAR_DIFFERENCE = 8.0  # world units between the larger and the smaller offset
NUMBER_WORDS = ("none", "one", "two", "three", "four", "five")


def name(rollout: Rollout, color: Color) -> str:
    """Colour and shape: ``red circle``."""
    return f"{color} {rollout.body(color).shape}"


def the(rollout: Rollout, color: Color) -> str:
    """Return the name with its definite article: ``the red circle``."""
    return f"the {name(rollout, color)}"


def a(noun: str) -> str:
    """Return the noun with its indefinite article: ``a red circle``, ``an orange square``."""
    return f"an {noun}" if noun.startswith("orange") else f"a {noun}"


def position_phrase(x: float, y: float) -> str:
    """One of nine places, such as ``at the top left``, ``in the middle`` or ``on the right``."""
    column = ("left", "", "right")[min(int(3 * x / ARENA), 2)]
    row = ("top", "", "bottom")[min(int(3 * y / ARENA), 2)]
    if row and column:
        return f"at the {row} {column}"
    if row:
        return f"at the {row}"
    return f"on the {column}" if column else "in the middle"


def direction(dx: float, dy: float) -> str:
    """Return one of :data:`DIRECTIONS` by the larger offset; empty if neither is clearly larger."""
    if abs(abs(dx) - abs(dy)) < _CLEAR_DIFFERENCE:
        return ""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def heading(velocity_x: float, velocity_y: float) -> str | None:
    """``left``, ``right``, ``up`` or ``down`` by the larger component; None at rest."""
    if max(abs(velocity_x), abs(velocity_y)) < MOVING_SPEED:
        return None
    if abs(velocity_x) >= abs(velocity_y):
        return "right" if velocity_x > 0 else "left"
    return "down" if velocity_y > 0 else "up"


def sentence(rollout: Rollout, event: Event) -> str:
    """An event as a clause in the present tense, without a full stop."""
    subject = the(rollout, event.subject)
    if event.kind == "enter":
        return f"{a(name(rollout, event.subject))} enters from the {event.side}"
    if event.kind == "leave":
        return f"{subject} leaves on the {event.side}"
    if event.kind == "block":
        return f"the wall blocks {subject}"
    assert event.target is not None
    verb = "hits" if event.kind == "hit" else "pushes"
    return f"{subject} {verb} {the(rollout, event.target)}"


def caption(rollout: Rollout) -> str:
    """Describe the whole video: what rests where, what happens, what still moves at the end."""
    sentences = ["there is a wall"] if rollout.scene.wall is not None else []
    for body in resting_bodies(rollout):
        sentences.append(f"{a(name(rollout, body.color))} rests {position_phrase(body.x, body.y)}")
    sentences += [sentence(rollout, event) for event in rollout.happened()]
    for body in rollout.scene.bodies:
        direction = final_heading(rollout, body.color)
        if direction is not None:
            sentences.append(f"{the(rollout, body.color)} is still moving {direction}")
    return ". ".join(sentences) + "."


def resting_bodies(rollout: Rollout) -> list[Body]:
    """Return the bodies that are there from the start, from left to right."""
    return sorted((b for b in rollout.scene.bodies if not b.enters), key=lambda b: b.x)


def final_heading(rollout: Rollout, color: Color) -> str | None:
    """Return a body's heading when the video ends; None if it rests or is out of sight."""
    if not rollout.visible(color, VIDEO_SECONDS):
        return None
    _, _, velocity_x, velocity_y = rollout.state(color, VIDEO_SECONDS)
    return heading(velocity_x, velocity_y)


def explanation(rollout: Rollout) -> list[str]:
    """Return the causal chain of the video, a step a sentence, each contact with its effect."""
    steps = []
    for event in rollout.happened():
        if event.kind == "enter":
            steps.append(f"{sentence(rollout, event)} and moves on")
        elif event.kind in ("hit", "push"):
            assert event.target is not None
            struck = the(rollout, event.target)
            moves = any(
                abs(v) >= MOVING_SPEED for v in rollout.state(event.target, event.time + 1e-3)[2:]
            )
            effect = "starts moving" if moves else "stays where it is"
            steps.append(f"{sentence(rollout, event)}, so {struck} {effect}")
        elif event.kind == "block":
            steps.append(f"{sentence(rollout, event)}, so it stops")
        else:
            steps.append(f"{sentence(rollout, event)} because nothing stops it")
    return steps


def predictions(rollout: Rollout, generator: random.Random) -> list[tuple[str, str, float]]:
    """Return up to three ``(event, justification, confidence)``, the likeliest first.

    The confidence is the share of :data:`NUM_FUTURES` perturbed futures in which the event is among
    the next to happen, rounded to a tenth. Without any event, the prediction is that everything
    rests.
    """
    counts: Counter[str] = Counter()
    events: dict[str, Event] = {}
    for future in perturbed_futures(rollout, NUM_FUTURES, generator):
        for event in future.happened(before=HORIZON_SECONDS, after=VIDEO_SECONDS):
            text = sentence(rollout, event)
            if text not in events:
                events[text] = event
            counts[text] += 1
    if not counts:
        return [("nothing moves", "everything rests at the end", 1.0)]
    likeliest = sorted(counts, key=lambda text: (-counts[text], events[text].time, text))[:3]
    return [
        (
            text,
            _justification(rollout, events[text]),
            min(round(counts[text] / NUM_FUTURES, 1), 1.0),
        )
        for text in likeliest
    ]


def _justification(rollout: Rollout, event: Event) -> str:
    direction = final_heading(rollout, event.subject)
    if direction is None:
        return "something will set it in motion"
    return f"it is moving {direction}"
