"""The microworld's English: names of objects, positions, events, causes and predictions."""

import math
import random
from collections import Counter, defaultdict
from statistics import fmean
from string import ascii_lowercase
from typing import NamedTuple

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.scenes import perturbed_futures
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
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
NOTHING = "nothing happens"
"""The sentence for a future without any event."""
_MAX_PREDICTIONS = 3

DIRECTIONS = ("left", "right", "above", "below")
_CLEAR_DIFFERENCE = 8.0  # world units between the larger and the smaller offset
_CLEAR_OF_BORDERS = 1.5  # world units between a point and another part of the picture
_NUM_SQUARES = 16
"""Columns and rows of squares: one is 4 world units wide, an object 14."""
_SLOW_SPEED = 12.0  # world units a second; a third of the moving objects are slower
_FAST_SPEED = 17.5  # and a third are faster
WAYS = (
    *("right", "right and slightly up", "up right", "up and slightly right"),
    *("up", "up and slightly left", "up left", "left and slightly up"),
    *("left", "left and slightly down", "down left", "down and slightly left"),
    *("down", "down and slightly right", "down right", "right and slightly down"),
)
"""Directions in sixteenths of a circle, anticlockwise from the right."""
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
    column = ("left", "", "right")[_third(x)]
    row = ("top", "", "bottom")[_third(y)]
    if row and column:
        return f"at the {row} {column}"
    if row:
        return f"at the {row}"
    return f"on the {column}" if column else "in the middle"


def _third(position: float) -> int:
    """Number of the third of the arena; what is partly outside belongs to the nearest."""
    return min(max(int(3 * position / ARENA), 0), 2)


def is_clearly_placed(x: float, y: float) -> bool:
    """Return whether a point lies in the arena and clearly in one of its nine parts."""
    return all(
        0 <= edge <= ARENA
        and all(abs(edge - ARENA * number / 3) > _CLEAR_OF_BORDERS for number in (1, 2))
        for edge in (x, y)
    )


def direction(dx: float, dy: float) -> str:
    """Return one of :data:`DIRECTIONS` by the larger offset; empty if neither is clearly larger."""
    if abs(abs(dx) - abs(dy)) < _CLEAR_DIFFERENCE:
        return ""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    # y grows downwards.
    return "above" if dy < 0 else "below"


def heading(velocity_x: float, velocity_y: float) -> str | None:
    """``left``, ``right``, ``up`` or ``down`` by the larger component; None at rest."""
    if max(abs(velocity_x), abs(velocity_y)) < MOVING_SPEED:
        return None
    if abs(velocity_x) >= abs(velocity_y):
        return "right" if velocity_x > 0 else "left"
    return "down" if velocity_y > 0 else "up"


def course(velocity_x: float, velocity_y: float) -> str | None:
    """Return one of eight directions, such as ``right`` or ``up left``; None at rest."""
    if max(abs(velocity_x), abs(velocity_y)) < MOVING_SPEED:
        return None
    slant = 0.4142 * max(abs(velocity_x), abs(velocity_y))  # the tangent of 22.5 degrees
    words = []
    if abs(velocity_y) > slant:
        words.append("up" if velocity_y < 0 else "down")
    if abs(velocity_x) > slant:
        words.append("left" if velocity_x < 0 else "right")
    return " ".join(words)


def square(x: float, y: float) -> str:
    """Return a square of 16 columns and rows, such as ``f11``; ``a1`` is at the top left.

    What is partly outside belongs to the nearest.
    """
    column, row = (
        min(max(int(_NUM_SQUARES * edge / ARENA), 0), _NUM_SQUARES - 1) for edge in (x, y)
    )
    return f"{ascii_lowercase[column]}{row + 1}"


def motion(velocity_x: float, velocity_y: float) -> str | None:
    """Return speed and direction, such as ``fast right and slightly up``; None at rest."""
    speed = math.hypot(velocity_x, velocity_y)
    if max(abs(velocity_x), abs(velocity_y)) < MOVING_SPEED:
        return None
    # 8 / pi turns radians into sixteenths; y grows downwards, angles go anticlockwise.
    sixteenth = round(8 * math.atan2(-velocity_y, velocity_x) / math.pi) % 16
    pace = "slowly " if speed < _SLOW_SPEED else "fast " if speed > _FAST_SPEED else ""
    return f"{pace}{WAYS[sixteenth]}"


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
    """Describe the whole video: what is there, what happens when, and how it ends."""
    return " ".join(f"{text}." for text in story(rollout))


def story(rollout: Rollout) -> list[str]:
    """Return the sentences of :func:`caption`, without full stops.

    Places are told as squares and directions as sixteenths of a circle, about as finely as a viewer
    sees them, because what comes next depends on them.
    """
    bars = {"wall": rollout.scene.wall, "screen": rollout.scene.screen}
    sentences = [_bar_phrase(kind, bar) for kind, bar in bars.items() if bar is not None]
    # Bodies in the order of colours: the scene's own order cannot be seen.
    bodies = sorted(rollout.scene.bodies, key=lambda body: COLORS.index(body.color))
    for body in (body for body in bodies if not body.comes_in):
        way = motion(body.velocity_x, body.velocity_y)
        does = f"moves {way}" if way else "rests"
        sentences.append(f"{a(name(rollout, body.color))} {does} at {square(body.x, body.y)}")
    for event in rollout.happened():
        sentences.append(f"{sentence(rollout, event)} after {_half_seconds(event.time)} seconds")
    for body in bodies:
        if not rollout.present(body.color, VIDEO_SECONDS):
            continue
        x, y, velocity_x, velocity_y = rollout.state(body.color, VIDEO_SECONDS)
        way = motion(velocity_x, velocity_y)
        behind = " behind the screen" if rollout.hidden(body.color, VIDEO_SECONDS) else ""
        where = f"at {square(x, y)}{behind}"
        if way:
            sentences.append(f"{the(rollout, body.color)} is still moving {way} {where}")
        elif has_moved(rollout, body.color):
            sentences.append(f"{the(rollout, body.color)} now rests {where}")
    return sentences


def _bar_phrase(kind: str, bar: Rectangle) -> str:
    return f"a {kind} from {square(bar.left, bar.top)} to {square(bar.right, bar.bottom)}"


def _half_seconds(seconds: float) -> float:
    return round(2 * seconds) / 2


def resting_bodies(rollout: Rollout) -> list[Body]:
    """Return the bodies that are there and at rest at the start, from left to right."""
    at_rest = (body for body in rollout.scene.bodies if not body.comes_in and not body.moves)
    return sorted(at_rest, key=lambda body: body.x)


def has_moved(rollout: Rollout, color: Color) -> bool:
    """Return whether the body moves at any time of the video."""
    return any(
        segment.time < VIDEO_SECONDS and heading(*segment.states[color][2:]) is not None
        for segment in rollout.segments
    )


def final_heading(rollout: Rollout, color: Color) -> str | None:
    """Return a body's heading when the video ends; None if it rests or has left."""
    if not rollout.present(color, VIDEO_SECONDS):
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
            # A moment after the contact, when its effect can be seen.
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


class NextEvent(NamedTuple):
    """One of the events that may come next."""

    text: str
    kind: str
    """One of ``NEXT_KINDS``."""
    justification: str
    probability: float
    """The share of perturbed futures in which it comes next."""
    seconds: float | None
    """Mean time from the video's end to the event; None for nothing."""


def next_events(
    rollout: Rollout, count: int, generator: random.Random, *, with_truth: bool = True
) -> list[NextEvent]:
    """Return the distribution over what comes next, the likeliest first.

    Args:
        rollout: What happens.
        count: Futures that are looked at: the true one, and others that look the same.
        generator: Draws the others.
        with_truth: Whether the true one is among them; an oracle does not know it.
    """
    known = [rollout] if with_truth else []
    futures = [*known, *perturbed_futures(rollout, count - len(known), generator)]
    events: dict[str, Event | None] = {}
    counts: Counter[str] = Counter()
    times: dict[str, list[float]] = defaultdict(list)
    for future in futures:
        event = future.next_event()
        # Futures with one sentence are one event, whenever it happens.
        text = next_sentence(rollout, event)
        events.setdefault(text, event)
        counts[text] += 1
        if event is not None:
            times[text].append(event.time - VIDEO_SECONDS)
    return [
        NextEvent(
            text=text,
            kind="nothing" if event is None else event.kind,
            justification=_justification(rollout, event),
            probability=counts[text] / count,
            seconds=fmean(times[text]) if text in times else None,
        )
        # The likeliest first; of equals in the order of their texts, which no draw changes.
        for text, event in sorted(events.items(), key=lambda item: (-counts[item[0]], item[0]))
    ]


def next_sentence(rollout: Rollout, event: Event | None) -> str:
    """Return the sentence for what happens next."""
    return NOTHING if event is None else sentence(rollout, event)


def predictions(rollout: Rollout, futures: list[NextEvent]) -> list[tuple[str, str, float]]:
    """Return up to three ``(event, justification, confidence)``: what happens, then what might.

    The first is the true next event: over many videos that look alike, the first ones are a sample
    of what may come next, so a model that learns them learns the distribution. The others are the
    likeliest of the rest. A confidence is the probability rounded to a tenth, at least a tenth.
    """
    outcome = next_sentence(rollout, rollout.next_event())
    first = [event for event in futures if event.text == outcome]
    others = [event for event in futures if event.text != outcome and event.probability >= 0.1]
    return [
        (event.text, event.justification, max(round(event.probability, 1), 0.1))
        for event in [*first, *others][:_MAX_PREDICTIONS]
    ]


def _justification(rollout: Rollout, event: Event | None) -> str:
    if event is None:
        moving = any(final_heading(rollout, body.color) for body in rollout.scene.bodies)
        return "nothing comes close to anything" if moving else "everything rests at the end"
    way = course(*rollout.state(event.subject, VIDEO_SECONDS)[2:])
    if way is None:
        return "something will set it in motion"
    reason = {
        "hit": " towards it",
        "push": " towards it",
        "block": " towards the wall",
        "leave": " and nothing is in its way",
        "enter": " and is partly in sight",
    }[event.kind]
    return f"it is moving {way}{reason}"
