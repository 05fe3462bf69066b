"""Open-ended questions about a rollout, under ActivityNet-QA's type digits."""

import random
from collections.abc import Iterator

from vidreason.microworld.language import (
    DIRECTIONS,
    NUMBER_WORDS,
    direction,
    final_heading,
    has_moved,
    is_clearly_placed,
    name,
    position_phrase,
    resting_bodies,
    sentence,
    the,
)
from vidreason.microworld.questions import Question, closed_question, touch
from vidreason.microworld.simulation import (
    COLORS,
    HORIZON_SECONDS,
    SHAPES,
    SIDES,
    VIDEO_SECONDS,
    Event,
    Rollout,
)
from vidreason.reasoning.futures import event_time_question

_STEP_SECONDS = 0.5  # to which times are rounded
_TIMES = ("0.5", "1.0", "1.5")  # later ones are too rare to be as frequent


def open_questions(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    """Yield all open-ended questions about a rollout, in a fixed order."""
    events = rollout.happened()
    # ActivityNet-QA's types: 0 motion, 1 relation in space, 2 order in time, 3 yes or no, 4 colour,
    # 5 object, 6 location, 7 number, 8 anything else.
    yield from _endings(rollout, events)
    yield from _relations(rollout, generator)
    yield from _first_to_enter(rollout, events)
    yield from _contacts(rollout, events, generator)
    yield from _movements(rollout, generator)
    yield from _final_motions(rollout)
    yield from _final_positions(rollout)
    yield from _looks(rollout, events)
    yield from _entrances(rollout, events)
    yield from _departures_counted(events)
    yield from _next_departures(rollout)
    yield from _times_of_next_event(rollout)


def _endings(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    answers = ("it left", "it stopped", "it kept moving", "it never moved")
    for body in rollout.scene.bodies:
        if any(e.kind == "leave" and e.subject == body.color for e in events):
            answer = answers[0]
        elif final_heading(rollout, body.color):
            answer = answers[2]
        elif has_moved(rollout, body.color):
            answer = answers[1]
        else:
            answer = answers[3]
        # What pushes goes on, what hits stops.
        template = f"ending/{touch(body.shape)}"
        text = f"what became of {the(rollout, body.color)}"
        yield closed_question(template, "0", text, answer, answers)


def _relations(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    bodies = resting_bodies(rollout)
    if len(bodies) < 2:
        return
    first, second = generator.sample(bodies, 2)
    answer = direction(first.x - second.x, first.y - second.y)
    if not answer:
        return
    yield closed_question(
        "relation",
        "1",
        f"on which side of {the(rollout, second.color)} was {the(rollout, first.color)} "
        "at the start",
        answer,
        DIRECTIONS,
    )


def _first_to_enter(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    enters = [event.subject for event in events if event.kind == "enter"]
    if len(enters) == 2:
        yield closed_question(
            "first_to_enter", "2", "what entered first", name(rollout, enters[0]), ()
        )


def _contacts(
    rollout: Rollout, events: list[Event], generator: random.Random
) -> Iterator[Question]:
    contacts = {(e.subject, e.target) for e in events if e.target is not None}
    pairs = [
        (a.color, b.color) for a in rollout.scene.bodies for b in rollout.scene.bodies if a != b
    ]
    happened = [pair for pair in pairs if pair in contacts]
    others = [pair for pair in pairs if pair not in contacts]
    # At most one pair that has touched and one that has not: yes and no are about as many.
    for pair in [*happened[:1], *generator.sample(others, min(1, len(others)))]:
        subject, target = pair
        verb = touch(rollout.body(subject).shape)
        yield closed_question(
            "contact",
            "3",
            f"did {the(rollout, subject)} {verb} {the(rollout, target)}",
            "yes" if pair in contacts else "no",
            ("yes", "no"),
        )


def _movements(rollout: Rollout, generator: random.Random) -> Iterator[Question]:
    color = generator.choice(rollout.scene.bodies).color
    answer = "yes" if has_moved(rollout, color) else "no"
    yield closed_question("movement", "3", f"did {the(rollout, color)} move", answer, ("yes", "no"))


def _final_motions(rollout: Rollout) -> Iterator[Question]:
    answers = ("left", "right", "up", "down", "it rested")
    for body in rollout.scene.bodies:
        if rollout.present(body.color, VIDEO_SECONDS):
            # direction() compares lengths: here the way of ten seconds. What moves aslant has no
            # answer.
            velocity_x, velocity_y = rollout.state(body.color, VIDEO_SECONDS)[2:]
            if final_heading(rollout, body.color) and not direction(
                10 * velocity_x, 10 * velocity_y
            ):
                continue  # both or neither
            text = f"which way was {the(rollout, body.color)} moving at the end"
            answer = final_heading(rollout, body.color) or answers[-1]
            yield closed_question("final_motion", "0", text, answer, answers)


def _final_positions(rollout: Rollout) -> Iterator[Question]:
    for body in rollout.scene.bodies:
        x, y, _, _ = rollout.state(body.color, VIDEO_SECONDS)
        if rollout.present(body.color, VIDEO_SECONDS) and is_clearly_placed(x, y):
            text = f"where was {the(rollout, body.color)} at the end"
            yield closed_question("final_position", "6", text, position_phrase(x, y), ())


def _looks(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    for event in events:
        if event.kind in ("hit", "push") and event.target is not None:
            verb = "hit" if event.kind == "hit" else "pushed"
            struck = the(rollout, event.target)
            strikers = {e.subject for e in events if e.target == event.target}
            # Of two strikers, either colour would be right.
            if len(strikers) == 1:
                text = f"what color was the object that {verb} {struck}"
                yield closed_question("color_of_striker", "4", text, event.subject, COLORS)
    for body in rollout.scene.bodies:
        text = f"what shape was the {body.color} object"
        yield closed_question("shape", "5", text, body.shape, SHAPES)


def _entrances(rollout: Rollout, events: list[Event]) -> Iterator[Question]:
    for event in events:
        if event.kind == "enter" and event.side is not None:
            text = f"where did {the(rollout, event.subject)} come from"
            yield closed_question("entrance", "6", text, event.side, SIDES)


def _departures_counted(events: list[Event]) -> Iterator[Question]:
    count = sum(event.kind == "leave" for event in events)
    answers = NUMBER_WORDS[:3]
    if count < len(answers):
        yield closed_question("count_left", "7", "how many objects left", answers[count], answers)


def _next_departures(rollout: Rollout) -> Iterator[Question]:
    answers = (*SIDES, "nowhere")
    future = rollout.happened(before=HORIZON_SECONDS, after=VIDEO_SECONDS)
    for body in rollout.scene.bodies:
        if not rollout.visible(body.color, VIDEO_SECONDS):
            continue
        leaves = [e for e in future if e.kind == "leave" and e.subject == body.color]
        answer = leaves[0].side if leaves else "nowhere"
        assert answer is not None
        text = f"where will {the(rollout, body.color)} leave next"
        yield closed_question("next_departure", "8", text, answer, answers)


def _times_of_next_event(rollout: Rollout) -> Iterator[Question]:
    event = rollout.next_event()
    if event is not None:
        seconds = _STEP_SECONDS * round((event.time - VIDEO_SECONDS) / _STEP_SECONDS)
        text, answer = event_time_question(sentence(rollout, event)), f"{seconds:.1f}"
        if answer in _TIMES:
            # Some kinds of events come sooner than others.
            yield closed_question(f"next_time/{event.kind}", "8", text, answer, _TIMES)
