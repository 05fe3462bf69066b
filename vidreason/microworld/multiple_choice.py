"""Multiple-choice questions about a rollout, under NExT-QA's type codes."""

import random
from collections.abc import Iterator

from vidreason.microworld.language import (
    NUMBER_WORDS,
    final_heading,
    has_moved,
    heading,
    is_clearly_placed,
    name,
    position_phrase,
    resting_bodies,
    the,
)
from vidreason.microworld.questions import Question, closed_question, touch, touched
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    SHAPES,
    SIDES,
    VIDEO_SECONDS,
    Color,
    Event,
    Rollout,
)

# Named by the middle of each of the nine parts.
_POSITIONS = tuple(
    position_phrase(ARENA * (column + 0.5) / 3, ARENA * (row + 0.5) / 3)
    for row in range(3)
    for column in range(3)
)


def multiple_choice_questions(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    """Yield all multiple-choice questions about a rollout, in a fixed order."""
    events = rollout.happened()
    # NExT-QA's types: C causal (W why, H how), T temporal (P before, N after, C meanwhile),
    # D descriptive (C count, L location, O another object).
    yield from _causes_of_motion(rollout, events, generator)
    yield from _causes_of_stopping(rollout, events, generator)
    yield from _manners(rollout, events)
    yield from _consequences(rollout, events)
    yield from _order_of_entering(rollout, events, generator)
    yield from _meanwhile(rollout, events)
    yield from _counts(rollout)
    yield from _positions(rollout, generator)
    yield from _struck_objects(rollout, events, generator)


def _causes_of_motion(
    rollout: Rollout, events: list[Event], generator: random.Random
) -> Iterator[Question]:
    for body in resting_bodies(rollout):
        contact = _contact_on(events, body.color)
        if contact is None or not _moves_after(rollout, body.color, contact.time):
            continue
        cause = name(rollout, contact.subject)
        others = _other_objects(rollout, contact.subject, body.color, generator)
        yield Question(
            template="cause_of_motion",
            type="CW",
            text=f"why did {the(rollout, body.color)} start moving",
            answer=f"the {cause} {touched(cause)} it",
            distractors=tuple(f"the {other} {touched(other)} it" for other in others),
            seen_at=_at(contact.time),
        )


def _causes_of_stopping(
    rollout: Rollout, events: list[Event], generator: random.Random
) -> Iterator[Question]:
    wall = "the wall blocked it"
    for body in rollout.scene.bodies:
        stop = _stopping_event(rollout, events, body.color)
        if stop is None:
            continue
        blocked = stop.kind == "block"
        # What the wall stops has reached no object: one is made up.
        reached = generator.choice(COLORS) if stop.target is None else stop.target
        while reached == body.color:
            reached = generator.choice(COLORS)
        others = _other_objects(rollout, reached, body.color, generator)
        if blocked:
            # So it is one of four wrong objects; where it did stop the body, it is the answer.
            others = [*others[:3], f"{reached} {generator.choice(SHAPES)}"]
            others = _distinct_names(others, rollout)
        touches = [f"it {touched(body.shape)} the {other}" for other in others]
        yield Question(
            # A square seldom stops at what it pushes.
            template=f"cause_of_stopping/{touch(body.shape)}",
            type="CW",
            text=f"why did {the(rollout, body.color)} stop",
            answer=wall if blocked else f"it {touched(body.shape)} {the(rollout, reached)}",
            distractors=tuple(touches[:4]) if blocked else (*touches[:3], wall),
            seen_at=_at(stop.time),
            # Each of the five options is right equally often; four of them are objects.
            answer_class="wall" if blocked else "object",
            balance_over=("wall", *["object"] * 4),
        )


def _distinct_names(names: list[str], rollout: Rollout) -> list[str]:
    """Return the names, those of present colours with their true shape."""
    shapes = {body.color: body.shape for body in rollout.scene.bodies}
    return [f"{n.split()[0]} {shapes.get(n.split()[0], n.split()[1])}" for n in names]


def _manners(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    entering = (*tuple(f"from the {side}" for side in SIDES), "it was there from the start")
    leaving = (*tuple(f"on the {side}" for side in SIDES), "it did not leave")
    for body in rollout.scene.bodies:
        enters = [e for e in events if e.subject == body.color and e.kind == "enter"]
        leaves = [e for e in events if e.subject == body.color and e.kind == "leave"]
        # What is still coming in when the video ends has neither entered nor been there.
        if enters or not body.comes_in:
            yield closed_question(
                "manner_of_entering",
                "CH",
                f"how did {the(rollout, body.color)} enter",
                f"from the {enters[0].side}" if enters else entering[-1],
                entering,
                seen_at=_at(enters[0].time if enters else 0.0),
            )
        yield closed_question(
            "manner_of_leaving",
            "CH",
            f"how did {the(rollout, body.color)} leave",
            f"on the {leaves[0].side}" if leaves else leaving[-1],
            leaving,
            seen_at=_at(leaves[0].time if leaves else VIDEO_SECONDS),
        )


def _consequences(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    answers = (*tuple(f"it left on the {side}" for side in SIDES), "the wall blocked it")
    for body in resting_bodies(rollout):
        contact = _contact_on(events, body.color)
        if contact is None:
            continue
        ends = [e for e in events if e.subject == body.color and e.time > contact.time]
        # It touched something else first: then that is what happened to it.
        if not ends or ends[0].kind not in ("leave", "block"):
            continue
        striker = name(rollout, contact.subject)
        answer = answers[-1] if ends[0].kind == "block" else f"it left on the {ends[0].side}"
        yield closed_question(
            "consequence",
            "TN",
            f"what happened to {the(rollout, body.color)} after the {striker} "
            f"{touched(striker)} it",
            answer,
            answers,
            seen_at=(contact.time, ends[0].time),
        )


def _order_of_entering(
    rollout: Rollout, events: list[Event], generator: random.Random
) -> Iterator[Question]:
    entering = [event for event in events if event.kind == "enter"]
    # Before or after one of three, two others would be right.
    if len(entering) != 2:
        return
    first, second = entering
    for word, type_code, other, event in (
        ("after", "TN", first, second),
        ("before", "TP", second, first),
    ):
        text = f"what entered {word} {the(rollout, other.subject)}"
        yield _which_object(
            *(rollout, f"entered_{word}", type_code, text, event.subject, other.subject),
            generator,
            _at(event.time),
        )


def _meanwhile(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    answers = tuple(f"it was moving {way}" for way in ("left", "right", "up", "down"))
    answers += ("it was resting",)
    for event in events:
        if event.kind not in ("hit", "push"):
            continue
        assert event.target is not None
        for body in rollout.scene.bodies:
            if body.color in (event.subject, event.target):
                continue
            if not rollout.visible(body.color, event.time):
                continue
            way = heading(*rollout.state(body.color, event.time)[2:])
            striker = name(rollout, event.subject)
            yield closed_question(
                "meanwhile",
                "TC",
                f"what did {the(rollout, body.color)} do when the {striker} "
                f"{touched(striker)} {the(rollout, event.target)}",
                f"it was moving {way}" if way else answers[-1],
                answers,
                seen_at=_at(event.time),
            )


def _counts(rollout: Rollout) -> Iterator[Question]:
    num_moved = sum(has_moved(rollout, body.color) for body in rollout.scene.bodies)
    total = len(rollout.scene.bodies)
    for template, text, count, possible in (
        ("count_moved", "how many objects moved", num_moved, NUMBER_WORDS[1:4]),
        ("count_all", "how many objects are there", total, NUMBER_WORDS[2:5]),
    ):
        # Only these are right, each equally often; other numbers are wrong options.
        if NUMBER_WORDS[count] in possible:
            yield Question(
                template=template,
                type="DC",
                text=text,
                answer=NUMBER_WORDS[count],
                distractors=tuple(w for w in NUMBER_WORDS[1:] if w != NUMBER_WORDS[count]),
                balance_over=possible,
            )


def _positions(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    for body in resting_bodies(rollout):
        if not is_clearly_placed(body.x, body.y):
            continue
        right = position_phrase(body.x, body.y)
        wrong = generator.sample([p for p in _POSITIONS if p != right], 4)
        yield Question(
            template="place",
            type="DL",
            text=f"where was {the(rollout, body.color)} at the start",
            answer=right,
            distractors=tuple(wrong),
            balance_over=_POSITIONS,
        )


def _struck_objects(
    rollout: Rollout, events: list[Event], generator: random.Random
) -> Iterator[Question]:
    for body in rollout.scene.bodies:
        contacts = [e for e in events if e.subject == body.color and e.target is not None]
        # Of several, each would be a right answer.
        if len(contacts) != 1 or contacts[0].target is None:
            continue
        text = f"what did {the(rollout, body.color)} {touch(body.shape)}"
        target = contacts[0].target
        yield _which_object(rollout, "struck_object", "DO", text, target, body.color, generator)


def _which_object(
    rollout: Rollout,
    template: str,
    type_code: str,
    text: str,
    answer: Color,
    excluded: Color,
    generator: random.Random,
    seen_at: tuple[float, float] | None = None,
) -> Question:
    """Make a question whose options are objects, none of them ``excluded``."""
    others = _other_objects(rollout, answer, excluded, generator)
    return Question(
        template=template,
        type=type_code,
        text=text,
        answer=the(rollout, answer),
        distractors=tuple(f"the {other}" for other in others),
        seen_at=seen_at,
    )


def _at(time: float) -> tuple[float, float]:
    return time, time


def _stopping_event(rollout: Rollout, events: list[Event], color: Color) -> Event | None:
    """Return the contact that brought a moving body to rest for good, if one did."""
    if not rollout.present(color, VIDEO_SECONDS) or final_heading(rollout, color) is not None:
        return None
    touches = [e for e in events if e.subject == color and (e.kind == "block" or e.target)]
    if not touches or _moves_after(rollout, color, touches[-1].time):
        return None
    return touches[-1]


def _contact_on(events: list[Event], color: Color) -> Event | None:
    return next((e for e in events if e.target == color), None)


def _other_objects(
    rollout: Rollout, right: Color, excluded: Color, generator: random.Random
) -> list[str]:
    """Return four objects that are not the answer: those of the scene first, then others."""
    present = [b.color for b in rollout.scene.bodies if b.color not in (right, excluded)]
    absent = [c for c in COLORS if c not in (right, excluded, *present)]
    generator.shuffle(absent)
    names = [name(rollout, color) for color in present]
    names += [f"{color} {generator.choice(SHAPES)}" for color in absent]
    return names[:4]


def _moves_after(rollout: Rollout, color: Color, time: float) -> bool:
    return heading(*rollout.state(color, time + 1e-3)[2:]) is not None
