"""The world's future is open: each kind of event comes next equally often, in rich scenes."""

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from statistics import fmean

import pytest

from vidreason.microworld.language import NextEvent, next_events, next_sentence
from vidreason.microworld.scenes import perturbed_futures
from vidreason.microworld.simulation import (
    NEXT_KINDS,
    RADIUS,
    VIDEO_SECONDS,
    Body,
    Event,
    Rollout,
    Scene,
    simulate,
)

CONTACTS = ("hit", "push", "block")
TIMES = [number / 8 for number in range(round(8 * VIDEO_SECONDS) + 1)]


def kind(rollout: Rollout) -> str:
    event = rollout.next_event()
    return "nothing" if event is None else event.kind


def limit(share: float, count: int) -> float:
    return share + 3 * sqrt(share * (1 - share) / count)


def test_each_six_videos_have_all_kinds_of_next_events_in_an_order_of_their_own(
    rollouts: list[Rollout],
) -> None:
    kinds = [kind(rollout) for rollout in rollouts]
    blocks = [tuple(kinds[start : start + 6]) for start in range(0, len(kinds), 6)]
    assert all(set(block) == set(NEXT_KINDS) for block in blocks)
    assert len(set(blocks)) > len(blocks) / 2


def test_no_next_event_is_likely_given_the_objects(rollouts: list[Rollout]) -> None:
    there: dict[tuple[bool, ...], Counter[str]] = defaultdict(Counter)
    events: Counter[tuple[str | None, ...]] = Counter()
    guessed = 0.0
    for rollout in rollouts:
        shapes = {body.shape for body in rollout.scene.bodies}
        key = rollout.scene.wall is not None, "square" in shapes, shapes == {"square"}
        there[key][kind(rollout)] += 1
        event = rollout.next_event()
        if event is not None:
            events[event.kind, event.subject, event.target] += 1
            others = len(rollout.scene.bodies) - 1
            guessed += 1 / (others + 1) / (others if event.target else 1)
    for counted in there.values():
        total = sum(counted.values())
        assert max(counted.values()) <= limit(1 / 3, total) * total
    # Nobody's colour says who it will be, and there are two or more who might.
    assert max(events.values()) <= limit(1 / len(NEXT_KINDS) / 3, len(rollouts)) * len(rollouts)
    assert guessed / sum(events.values()) < 1 / 3


def test_what_happens_next_does_so_soon_and_not_at_once(rollouts: list[Rollout]) -> None:
    for rollout in rollouts:
        event = rollout.next_event()
        if event is not None:
            assert 0.4 <= event.time - VIDEO_SECONDS <= 2.5


@pytest.mark.parametrize(
    ("count", "least"),
    [
        # Measured on 600 videos of the world before, whose videos began with their scene.
        (lambda rollout: len(rollout.scene.bodies), 2.59),
        (lambda rollout: sum(body.comes_in for body in rollout.scene.bodies), 1.24),
        (lambda rollout: rollout.scene.wall is not None, 0.375),
        (lambda rollout: len(rollout.happened()), 3.3),
        (lambda rollout: sum(event.kind in CONTACTS for event in rollout.happened()), 1.31),
    ],
    ids=["bodies", "bodies that come in", "walls", "events", "contacts"],
)
def test_scenes_are_no_simpler_than_before(
    rollouts: list[Rollout], count: Callable[[Rollout], float], least: float
) -> None:
    assert fmean(count(rollout) for rollout in rollouts) >= least


def wholly_hidden(rollout: Rollout, time: float) -> list[str]:
    """Colours of the bodies whose centre is well behind the screen."""
    screen = rollout.scene.screen
    if screen is None:
        return []
    inner = dataclasses.replace(
        screen,
        left=screen.left + 0.9 * RADIUS,
        right=screen.right - 0.9 * RADIUS,
        top=screen.top + 0.9 * RADIUS,
        bottom=screen.bottom - 0.9 * RADIUS,
    )
    if inner.left > inner.right or inner.top > inner.bottom:
        return []
    colors = (body.color for body in rollout.scene.bodies)
    return [c for c in colors if inner.distance(*rollout.state(c, time)[:2]) == 0]


def partners(event: Event | None) -> set[str]:
    return set() if event is None else {event.subject, event.target or event.subject}


def test_objects_pass_behind_a_screen_and_some_are_there_at_the_end(
    rollouts: list[Rollout],
) -> None:
    num_passing = num_ending = num_acting = 0
    for rollout in rollouts:
        num_passing += any(wholly_hidden(rollout, time) for time in TIMES)
        colors = {body.color for body in rollout.scene.bodies}
        hidden = {c for c in colors if rollout.hidden(c, VIDEO_SECONDS)}
        num_ending += bool(hidden)
        num_acting += bool(hidden & partners(rollout.next_event()))
        for event in rollout.happened():
            if event.kind != "leave":
                assert not any(rollout.hidden(color, event.time) for color in partners(event))
        for color in colors:
            assert any(rollout.visible(color, time) for time in TIMES)
    assert num_passing >= 0.05 * len(rollouts)
    assert num_ending >= 0.05 * len(rollouts)
    assert num_acting >= 3


@pytest.fixture(scope="module")
def futures(rollouts: list[Rollout]) -> list[list[NextEvent]]:
    return [next_events(rollout, 20, random.Random(0)) for rollout in rollouts]


def test_next_events_are_a_distribution_with_the_truth(
    rollouts: list[Rollout], futures: list[list[NextEvent]]
) -> None:
    assert next_events(rollouts[0], 20, random.Random(0)) == futures[0]
    for rollout, events in zip(rollouts, futures, strict=True):
        probabilities = [event.probability for event in events]
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities == sorted(probabilities, reverse=True)
        assert len({event.text for event in events}) == len(events)
        truth = next_sentence(rollout, rollout.next_event())
        assert truth in {event.text for event in events}
        for event in events:
            assert event.kind in NEXT_KINDS
            assert (event.seconds is None) == (event.kind == "nothing")
            assert event.seconds is None or 0 <= event.seconds <= 4


def test_the_future_is_open(futures: list[list[NextEvent]]) -> None:
    likeliest = [events[0].probability for events in futures]
    assert 0.6 < fmean(likeliest) < 0.95
    assert fmean(probability == 1 for probability in likeliest) < 0.75


def test_a_pair_that_goes_on_as_one_is_not_pushed_once_more() -> None:
    square = Body(color="red", shape="square", x=20.0, y=30.0, velocity_x=4.0)
    circle = Body(color="blue", shape="circle", x=20.0 + 2 * RADIUS, y=30.0, velocity_x=4.0)
    # Six seconds earlier they went where they go now.
    pair = [replace(body, x=body.x - 4.0 * VIDEO_SECONDS) for body in (square, circle)]
    rollout = simulate(Scene(bodies=tuple(pair), wall=None, background=220))
    for future in perturbed_futures(rollout, 100, random.Random(0)):
        assert all(event.kind != "push" for event in future.events)
        states = [future.state(body.color, VIDEO_SECONDS) for body in pair]
        assert states[0][2:] == pytest.approx(states[1][2:])
