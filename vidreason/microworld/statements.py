"""True sentences about a rollout, with the time in which they are seen: steps, causes, orders."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from vidreason.microworld.language import MOVING_SPEED, explanation, sentence, the
from vidreason.microworld.simulation import (
    HORIZON_SECONDS,
    VIDEO_SECONDS,
    Color,
    Event,
    Rollout,
    UnsettledSceneError,
    simulate,
)

_MOMENT = 1e-3  # seconds before and after a contact
_SAME_TIME = 0.05  # seconds between an event and the same one in a counterfactual scene


@dataclass(frozen=True)
class Statement:
    """A sentence that is true of a span."""

    text: str
    """Without a full stop."""
    first_seconds: float
    """Time of the first event that it speaks of, in seconds of the video."""
    last_seconds: float
    """Time of the last one."""


@dataclass(frozen=True)
class Effect:
    """Something that an object does, and the event that makes it do so."""

    text: str
    """A clause such as ``the red circle starts moving``."""
    cause: str
    """A clause that follows ``because``, such as ``the blue square pushes it``."""
    color: Color
    """The object."""
    event: Event
    """The event by which it is seen."""
    caused_by: Event
    """The event of the cause; often the same one."""


def true_statements(rollout: Rollout) -> list[Statement]:
    """Return every true step, cause and order of two events in the video, in a fixed order."""
    return [*steps(rollout), *_causes(rollout), *_clauses(rollout), *orders(rollout)]


def is_true(rollout: Rollout, text: str, start_seconds: float, end_seconds: float) -> bool:
    """Return whether the event log says what a sentence says, within a span of the video."""
    return any(
        statement.text == text
        and start_seconds <= statement.first_seconds
        and statement.last_seconds <= end_seconds
        for statement in true_statements(rollout)
    )


def steps(rollout: Rollout) -> list[Statement]:
    """Return the steps of :func:`~vidreason.microworld.language.explanation`."""
    events = rollout.happened()
    return [
        Statement(text, event.time, event.time)
        for text, event in zip(explanation(rollout), events, strict=True)
    ]


def _causes(rollout: Rollout) -> list[Statement]:
    return [
        Statement(because(effect.text, effect.cause), *cause_times(effect))
        for effect in effects(rollout)
    ]


def _clauses(rollout: Rollout) -> list[Statement]:
    events = rollout.happened()
    return [Statement(sentence(rollout, event), event.time, event.time) for event in events]


def orders(rollout: Rollout) -> list[Statement]:
    """Return ``A before B`` and ``B after A`` for each two events of the video."""
    return [
        Statement(text, earlier.time, later.time)
        for earlier, later in combinations(rollout.happened(), 2)
        for text in order_texts(rollout, earlier, later)
    ]


def order_texts(rollout: Rollout, earlier: Event, later: Event) -> tuple[str, str]:
    """Return both sentences that say that one event comes first."""
    first, second = sentence(rollout, earlier), sentence(rollout, later)
    return f"{first} before {second}", f"{second} after {first}"


def because(effect: str, cause: str) -> str:
    """Return the sentence that gives an effect its cause."""
    return f"{effect} because {cause}"


def cause_times(effect: Effect) -> tuple[float, float]:
    """Return the times of the cause and of the effect, in seconds."""
    return effect.caused_by.time, effect.event.time


def effects(rollout: Rollout) -> list[Effect]:
    """Return what starts moving, stops or leaves in the video because of another thing."""
    return [effect for event in rollout.happened() for effect in _effects_of(rollout, event)]


def _effects_of(rollout: Rollout, event: Event) -> Iterator[Effect]:
    subject = the(rollout, event.subject)
    if event.kind == "block":
        yield Effect(f"{subject} stops", "the wall blocks it", event.subject, event, event)
    if event.target is not None:
        struck, verb = the(rollout, event.target), touches(rollout, event.subject)
        if _changes(rollout, event.target, event.time) == "starts":
            cause = f"{subject} {verb} it"
            yield Effect(f"{struck} starts moving", cause, event.target, event, event)
        if _changes(rollout, event.subject, event.time) == "stops":
            yield Effect(f"{subject} stops", f"it {verb} {struck}", event.subject, event, event)
    if event.kind == "leave":
        # Seen when it leaves, but caused by an earlier contact.
        contact = _that_set_in_motion(rollout, event)
        if contact is not None:
            cause = f"{the(rollout, contact.subject)} {touches(rollout, contact.subject)} it"
            text = f"{subject} leaves on the {event.side}"
            yield Effect(text, cause, event.subject, event, contact)


def touches(rollout: Rollout, color: Color) -> str:
    """Return the verb that fits an object: squares push, the others hit."""
    return "pushes" if rollout.body(color).shape == "square" else "hits"


def _changes(rollout: Rollout, color: Color, time: float) -> str:
    """Return ``starts``, ``stops`` or nothing, by the speeds before and after a contact."""
    before, after = (
        math.hypot(*rollout.state(color, time + step)[2:]) >= MOVING_SPEED
        for step in (-_MOMENT, _MOMENT)
    )
    if before == after:
        return ""
    return "starts" if after else "stops"


def _that_set_in_motion(rollout: Rollout, leave: Event) -> Event | None:
    """Return the contact without which the body would have stayed; None if it moved by itself."""
    # The last contact, if the body rested before it and would not leave without who touched it.
    contacts = [event for event in rollout.happened(leave.time) if event.target == leave.subject]
    if not contacts or _changes(rollout, leave.subject, contacts[-1].time) != "starts":
        return None
    return None if happens_without(rollout, contacts[-1].subject, leave) else contacts[-1]


def happens_without(rollout: Rollout, color: Color, event: Event) -> bool:
    """Return whether an event happens as it did in the scene in which a body does not exist.

    A counterfactual scene that does not settle counts as one in which it does not.
    """
    try:
        counterfactual = simulate(rollout.scene.without(color))
    except UnsettledSceneError:
        return False
    return any(
        (other.kind, other.subject, other.target, other.side)
        == (event.kind, event.subject, event.target, event.side)
        and abs(other.time - event.time) < _SAME_TIME
        for other in counterfactual.events
    )


def ever_touch(rollout: Rollout, one: Color, other: Color) -> bool:
    """Return whether two bodies touch in the video or in the seconds after it."""
    return any(
        {event.subject, event.target} == {one, other}
        for event in rollout.happened(before=HORIZON_SECONDS)
    )


def nearly_happens(rollout: Rollout, color: Color, kind: str) -> bool:
    """Return whether a body does something in the video or soon after, when it may look so."""
    soon = rollout.happened(before=VIDEO_SECONDS + 2.0)
    return any(event.kind == kind and event.subject == color for event in soon)
