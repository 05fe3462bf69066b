"""True and false steps about a rollout: errors of five kinds, each false by the event log."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Literal, get_args

from vidreason.microworld.language import a, explanation, name, sentence, the
from vidreason.microworld.simulation import (
    COLORS,
    SHAPES,
    SIDES,
    VIDEO_SECONDS,
    Color,
    Event,
    EventKind,
    Rollout,
)
from vidreason.microworld.statements import (
    Effect,
    Statement,
    because,
    cause_times,
    effects,
    ever_touch,
    happens_without,
    is_true,
    nearly_happens,
    order_texts,
    orders,
    steps,
    touches,
)

ErrorKind = Literal["wrong_object", "wrong_order", "wrong_cause", "invented_event", "unseen_tool"]
"""Kinds of errors: an event with another object, of the scene or of no scene; two events in the
wrong order, or a step at another step's time; an effect with the cause of none; an event that did
not happen, with objects that are there; a tool that no world has, the paper's failure (section
5.3)."""
Form = Literal["step", "order", "cause"]
"""Forms of sentences: a step of an explanation, "A before B" or "B after A", "E because C"."""
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)

SEEN_SECONDS = 0.5
"""Time before the first and after the last event of a sentence that belongs to its span."""
_CLEARLY_APART = 2 * SEEN_SECONDS + 0.2  # seconds between two steps that can be swapped
_CONTACT_EFFECTS = ("starts moving",) * 4 + ("stays where it is",)
_ENDINGS = {
    "enter": " and moves on",
    "block": ", so it stops",
    "leave": " because nothing stops it",
}
_TOOL_SENTENCES = (
    "a hand uses a torque wrench to tighten {it}",
    "a mechanic checks {it} with a torque wrench",
    "a hand turns {it} with a screwdriver",
    "a hammer hits {it}",
    "a drill makes a hole in {it}",
    "a pair of pliers grips {it}",
    "a saw cuts {it} in two",
    "a man lifts {it} with a crowbar",
)


@dataclass(frozen=True, kw_only=True)
class ToldStep:
    """A sentence about a span of the video."""

    text: str
    """Without a full stop."""
    start_seconds: float
    end_seconds: float
    error: ErrorKind | None = None
    """None for a true one."""
    form: Form = "step"


def true_steps(rollout: Rollout) -> list[ToldStep]:
    """Return the steps of the video's explanation, with their spans."""
    return [_told(statement, "step") for statement in steps(rollout)]


def true_step(rollout: Rollout, form: Form, generator: random.Random) -> ToldStep | None:
    """Return a true sentence of a form: what false ones of that form are compared with.

    Returns:
        None where the scene has nothing of that form.
    """
    if form == "cause":
        statements = [_cause(effect, effect.cause) for effect in effects(rollout)]
    else:
        statements = orders(rollout) if form == "order" else steps(rollout)
    return _told(generator.choice(statements), form) if statements else None


def false_step(rollout: Rollout, kind: ErrorKind, generator: random.Random) -> ToldStep | None:
    """Return a sentence that is false by the event log.

    Args:
        rollout: What happens.
        kind: Kind of the error.
        generator: Draws it.

    Returns:
        None where the scene has nothing with which to err in that way.
    """
    # Each once, in the order of their making: a set has another order in each process.
    candidates = list(dict.fromkeys(_MAKERS[kind](rollout, generator)))
    # What is true of the span by another event, such as a second contact, is no error.
    told = [candidate for candidate in candidates if _is_false(rollout, candidate)]
    return replace(generator.choice(told), error=kind) if told else None


def planted(rollout: Rollout, kind: ErrorKind, generator: random.Random) -> list[ToldStep] | None:
    """Return an explanation in which one error of a kind is planted, in the order of starts.

    Two swapped steps are one error; both of them are false. An invented event and an unseen tool
    are further steps, another error replaces the step of its event.

    Returns:
        None where the scene has nothing with which to err in that way.
    """
    told = true_steps(rollout)
    if kind == "wrong_order":
        pairs = _swappable(rollout)
        if pairs:
            one, other = generator.choice(pairs)
            swapped = list(told)
            swapped[one] = replace(told[one], text=told[other].text, error=kind)
            swapped[other] = replace(told[other], text=told[one].text, error=kind)
            return swapped
    error = false_step(rollout, kind, generator)
    if error is None:
        return None
    if kind in ("wrong_object", "wrong_cause"):
        # The step that ends when the false one does is the one that it replaces.
        nearest = min(told, key=lambda step: abs(step.end_seconds - error.end_seconds))
        told.remove(nearest)
    elif kind == "wrong_order":
        # A false order of two events has no step of its own: it takes the last one's.
        told.pop()
    return sorted([*told, error], key=lambda step: step.start_seconds)


def _is_false(rollout: Rollout, step: ToldStep) -> bool:
    return not is_true(rollout, step.text, step.start_seconds, step.end_seconds)


def _told(statement: Statement, form: Form) -> ToldStep:
    return ToldStep(
        text=statement.text,
        start_seconds=round(max(statement.first_seconds - SEEN_SECONDS, 0.0), 2),
        end_seconds=round(min(statement.last_seconds + SEEN_SECONDS, VIDEO_SECONDS), 2),
        form=form,
    )


def _wrong_objects(rollout: Rollout, generator: random.Random) -> list[ToldStep]:
    """Return steps with another object of the scene, and with one that is not there."""
    present = [body.color for body in rollout.scene.bodies]
    absent = generator.choice([color for color in COLORS if color not in present])
    stranger = f"{absent} {generator.choice(SHAPES)}"
    told: list[list[ToldStep]] = [[], []]
    for event, text in zip(rollout.happened(), explanation(rollout), strict=True):
        for color in filter(None, (event.subject, event.target)):
            for other in present:
                if _is_wrong_in(rollout, event, color, other):
                    new = _exchanged(text, name(rollout, color), name(rollout, other))
                    told[0].append(_at(new, event.time))
            told[1].append(_at(_exchanged(text, name(rollout, color), stranger), event.time))
    # As many strangers as objects of the scene: both are equally likely where there are both.
    sides = [side for side in told if side]
    return [generator.choice(side) for side in sides]


def _is_wrong_in(rollout: Rollout, event: Event, color: Color, other: Color) -> bool:
    """Return whether an event is clearly false if ``other`` does what ``color`` does in it."""
    if other in (event.subject, event.target):
        return False
    if event.target is not None:
        # With another partner a contact is false only if the two never touch, after the video
        # either.
        third = event.target if color == event.subject else event.subject
        return not ever_touch(rollout, other, third)
    # What was outside at the start may have entered itself, or be about to.
    comes_in = event.kind == "enter" and rollout.body(other).comes_in
    return not comes_in and not nearly_happens(rollout, other, event.kind)


def _exchanged(text: str, old: str, new: str) -> str:
    """Return a step with another object, with the article and the verb that fit it."""
    # First with its article, which may change: "an orange circle" becomes "a red circle".
    text = text.replace(a(old), a(new)).replace(old, new)
    verb = "pushes" if new.endswith("square") else "hits"
    if text.startswith(f"the {new} "):
        for other in ("pushes", "hits"):
            text = text.replace(f"the {new} {other} ", f"the {new} {verb} ", 1)
    return text


def _wrong_orders(rollout: Rollout, generator: random.Random) -> list[ToldStep]:
    """Return orders that are said the wrong way round, and steps at other steps' times."""
    told = [
        _told(Statement(text, earlier.time, later.time), "order")
        for earlier, later in combinations(rollout.happened(), 2)
        for text in order_texts(rollout, later, earlier)
    ]
    truth = true_steps(rollout)
    swapped = [
        replace(truth[one], text=truth[other].text)
        for pair in _swappable(rollout)
        for one, other in permutations(pair)
    ]
    # Both forms are equally likely where there are both.
    return [generator.choice(form) for form in (told, swapped) if form]


def _swappable(rollout: Rollout) -> list[tuple[int, int]]:
    """Return the steps, as indices, that are false at each other's time."""
    times = [event.time for event in rollout.happened()]
    told = true_steps(rollout)
    return [
        (one, other)
        for one, other in combinations(range(len(told)), 2)
        if times[other] - times[one] >= _CLEARLY_APART
        and _is_false(rollout, replace(told[one], text=told[other].text))
        and _is_false(rollout, replace(told[other], text=told[one].text))
    ]


def _wrong_causes(rollout: Rollout, generator: random.Random) -> list[ToldStep]:
    """Return effects with a cause that has nothing to do with them."""
    told = []
    for effect in effects(rollout):
        for other in (body.color for body in rollout.scene.bodies):
            # What touches the object, or is needed for the event in any way, may be called its
            # cause.
            if other == effect.color or ever_touch(rollout, other, effect.color):
                continue
            if not happens_without(rollout, other, effect.event):
                continue
            verb = touches(rollout, other)
            texts = [f"{the(rollout, other)} {verb} it"]
            if effect.text.endswith("stops"):
                texts.append(f"it {touches(rollout, effect.color)} {the(rollout, other)}")
            told += [_told(_cause(effect, text), "cause") for text in texts]
        blocked = nearly_happens(rollout, effect.color, "block")
        if effect.text.endswith("stops") and rollout.scene.wall is not None and not blocked:
            told.append(_told(_cause(effect, "the wall blocks it"), "cause"))
    return told


def _cause(effect: Effect, cause: str) -> Statement:
    return Statement(because(effect.text, cause), *cause_times(effect))


def _invented_events(rollout: Rollout, generator: random.Random) -> list[ToldStep]:
    """Return steps about events of none, as frequent by kind as those of the video are."""
    kinds = [event.kind for event in rollout.happened()]
    moment = generator.uniform(SEEN_SECONDS, VIDEO_SECONDS - SEEN_SECONDS)
    # Kinds as often as they are in the video; the next one where a kind cannot be invented.
    for kind in generator.sample(kinds, len(kinds)):
        if kind in ("hit", "push"):
            texts = _invented_contacts(rollout, generator)
        else:
            texts = _invented_movements(rollout, kind, generator)
        if texts:
            return [_at(text, moment) for text in texts]
    return []


def _invented_contacts(rollout: Rollout, generator: random.Random) -> list[str]:
    texts = []
    for one, other in permutations([body.color for body in rollout.scene.bodies], 2):
        if not ever_touch(rollout, one, other):
            struck = the(rollout, other)
            effect = generator.choice(_CONTACT_EFFECTS)
            contact = f"{the(rollout, one)} {touches(rollout, one)} {struck}"
            texts.append(f"{contact}, so {struck} {effect}")
    return texts


def _invented_movements(rollout: Rollout, kind: EventKind, generator: random.Random) -> list[str]:
    side = generator.choice(SIDES)
    texts = []
    for color in (body.color for body in rollout.scene.bodies):
        comes_in = kind == "enter" and rollout.body(color).comes_in
        if not comes_in and not nearly_happens(rollout, color, kind):
            event = Event(time=0.0, kind=kind, subject=color, side=side)
            texts.append(sentence(rollout, event) + _ENDINGS[kind])
    return texts


def _unseen_tools(rollout: Rollout, generator: random.Random) -> list[ToldStep]:
    body = generator.choice(rollout.scene.bodies)
    moment = generator.uniform(SEEN_SECONDS, VIDEO_SECONDS - SEEN_SECONDS)
    thing = the(rollout, body.color)
    return [_at(text.format(it=thing), moment) for text in _TOOL_SENTENCES]


def _at(text: str, time: float) -> ToldStep:
    return _told(Statement(text, time, time), "step")


_MAKERS: dict[ErrorKind, Callable[[Rollout, random.Random], list[ToldStep]]] = {
    "wrong_object": _wrong_objects,
    "wrong_order": _wrong_orders,
    "wrong_cause": _wrong_causes,
    "invented_event": _invented_events,
    "unseen_tool": _unseen_tools,
}
