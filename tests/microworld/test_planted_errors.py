"""Planted errors are false, true steps are true, and the oracle tells them apart."""

import random
import re

import pytest

from vidreason.evidence.verifier import Claim
from vidreason.microworld.oracle_verifier import OracleVerifier, rollouts_by_path
from vidreason.microworld.planted_errors import (
    ERROR_KINDS,
    ToldStep,
    false_step,
    planted,
    true_step,
    true_steps,
)
from vidreason.microworld.scenes import rollout_of
from vidreason.microworld.simulation import VIDEO_SECONDS, Event, Rollout

FORMS = ("step", "order", "cause")
OBJECT = r"(?:the|a|an) (\w+) (?:circle|square|triangle)"
CONTACT = re.compile(rf"{OBJECT} (?:hits|pushes) {OBJECT}")
BLOCK = re.compile(rf"the wall blocks {OBJECT}")
SIDE = re.compile(rf"{OBJECT} (enters|leaves) (?:from|on) the (\w+)")


def claim(step: ToldStep, media: str) -> Claim:
    return Claim(
        text=step.text,
        media=media,
        start_seconds=step.start_seconds,
        end_seconds=step.end_seconds,
    )


def events_of(rollout: Rollout, clause: str) -> list[Event]:
    """The events of the whole log that a clause speaks of, read in another way than it is made."""
    names = {body.color: f"{body.color} {body.shape}" for body in rollout.scene.bodies}
    events = []
    for event in rollout.events:
        colors = [color for color in (event.subject, event.target) if color is not None]
        if not all(names[color] in clause for color in colors):
            continue
        match = {
            "hit": CONTACT,
            "push": CONTACT,
            "block": BLOCK,
            "enter": SIDE,
            "leave": SIDE,
        }[event.kind].match(clause)
        if match is None:
            continue
        said = match.groups()
        is_it = {
            "hit": said == (event.subject, event.target),
            "push": said == (event.subject, event.target),
            "block": said == (event.subject,),
            "enter": said == (event.subject, "enters", event.side),
            "leave": said == (event.subject, "leaves", event.side),
        }[event.kind]
        events += [event] if is_it else []
    return events


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_oracle_is_always_right(seed: int) -> None:
    rollout_of_media = rollouts_by_path(seed)
    oracle = OracleVerifier(rollout_of_media)
    generator = random.Random(seed)
    counts = dict.fromkeys(ERROR_KINDS, 0)
    for index in range(20):
        media = f"videos/v_3{index:010d}.mp4"
        rollout = rollout_of_media(media)
        true = [*true_steps(rollout)]
        true += [step for form in FORMS if (step := true_step(rollout, form, generator))]
        for kind in ERROR_KINDS:
            step = false_step(rollout, kind, generator)
            if step is None:
                continue
            counts[kind] += 1
            assert step.error == kind
            assert oracle.verify([claim(step, media)]) == [(0.0, False)], step
        answers = oracle.verify([claim(step, media) for step in true])
        assert answers == [(1.0, True)] * len(true)
    assert min(counts.values()) >= 12, counts


def test_an_explanation_has_one_planted_error_and_is_in_order() -> None:
    for index in range(12):
        rollout = rollout_of("test", index, 7)
        media = f"3{index:010d}.mp4"
        oracle = OracleVerifier(lambda _, rollout=rollout: rollout)
        for kind in ERROR_KINDS:
            steps = planted(rollout, kind, random.Random(index))
            if steps is None:
                continue
            supports = oracle.verify([claim(step, media) for step in steps])
            assert [s.is_supported for s in supports] == [step.error is None for step in steps]
            is_false = [step for step in steps if step.error]
            assert {step.error for step in is_false} == {kind}
            assert len(is_false) == 1 or kind == "wrong_order"
            assert [step.start_seconds for step in steps] == sorted(s.start_seconds for s in steps)
            assert all(0 <= s.start_seconds < s.end_seconds <= VIDEO_SECONDS for s in steps)


def test_false_sentences_contradict_the_event_log(rollouts: list[Rollout]) -> None:
    generator = random.Random(3)
    for rollout in rollouts[:40]:
        for kind in ("wrong_object", "invented_event"):
            step = false_step(rollout, kind, generator)
            assert step is None or not events_of(rollout, step.text), step
        step = false_step(rollout, "wrong_order", generator)
        assert step is not None
        if step.form == "step":
            times = [event.time for event in events_of(rollout, step.text)]
            assert times
            assert not any(step.start_seconds <= time <= step.end_seconds for time in times)
        else:
            first, word, second = re.split(" (before|after) ", step.text)
            earlier, later = (first, second) if word == "before" else (second, first)
            one, other = events_of(rollout, earlier), events_of(rollout, later)
            assert one
            assert other
            assert min(e.time for e in one) >= max(e.time for e in other)


def test_wrong_causes_change_nothing(rollouts: list[Rollout]) -> None:
    """Without the object that is said to be the cause, the effect is the same."""
    generator = random.Random(4)
    tried = 0
    for rollout in rollouts[:40]:
        step = false_step(rollout, "wrong_cause", generator)
        if step is None or step.text.endswith("the wall blocks it"):
            continue
        effect, cause = step.text.split(" because ")
        colors = [body.color for body in rollout.scene.bodies if body.color in effect]
        others = [body.color for body in rollout.scene.bodies if body.color in cause]
        assert len(colors) == len(others) == 1
        assert not any({e.subject, e.target} == {colors[0], others[0]} for e in rollout.events)
        tried += 1
    assert tried > 20


def test_planting_is_the_same_every_time(rollouts: list[Rollout]) -> None:
    rollout = rollouts[0]
    for kind in ERROR_KINDS:
        once, again = (planted(rollout, kind, random.Random(9)) for _ in range(2))
        assert once == again
    texts = {
        step.text
        for number in range(30)
        if (step := false_step(rollout, "wrong_object", random.Random(number)))
    }
    assert len(texts) > 3


def test_the_oracle_knows_no_torque_wrench() -> None:
    media = "30000000000.mp4"
    rollout = rollouts_by_path()(media)
    step = true_steps(rollout)[0]
    oracle = OracleVerifier(rollouts_by_path())
    tool = "a hand uses a torque wrench to ensure that it is at the specified tightness"
    claims = [
        Claim(text=tool, media=media),
        Claim(text=f" {step.text[0].upper()}{step.text[1:]}. ", media=media),
        Claim(text=step.text, media=media, start_seconds=5.99, end_seconds=6.0),
        Claim(text="", media=media),
    ]
    assert [support.is_supported for support in oracle.verify(claims)] == [
        False,
        True,
        False,
        False,
    ]


def test_the_oracle_refuses_a_video_of_no_world() -> None:
    for media in ("tyres.mp4", "40000000000.mp4", "../3.mp4", ""):
        with pytest.raises(ValueError, match="not a video of a microworld"):
            OracleVerifier(rollouts_by_path()).verify([Claim(text="x", media=media)])
