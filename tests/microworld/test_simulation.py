import dataclasses
import math
import random
from itertools import combinations, pairwise

import pytest

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.scenes import (
    POSITION_UNCERTAINTY,
    draw_rollout,
    draw_rollouts,
    perturbed_futures,
    rollout_of,
)
from vidreason.microworld.simulation import (
    RADIUS,
    VIDEO_SECONDS,
    Body,
    Event,
    Rollout,
    Scene,
    simulate,
)


def scene(*bodies: Body, wall: Rectangle | None = None) -> Scene:
    return Scene(bodies=bodies, wall=wall, background=230)


def mover(color: str = "red", shape: str = "circle", y: float = 32.0) -> Body:
    return Body(color=color, shape=shape, x=-RADIUS - 16.0, y=y, velocity_x=16.0)


def test_a_circle_hands_its_speed_to_what_it_hits():
    target = Body(color="blue", shape="square", x=40.0, y=32.0)
    rollout = simulate(scene(mover(), target))
    # Partly inside after 16 units, wholly after 2 RADIUS more, at 16 units a second.
    entry = 1.0 + 2 * RADIUS / 16.0
    contact = 1.0 + (40.0 - RADIUS) / 16.0
    leaving = contact + (64.0 + RADIUS - 40.0) / 16.0
    assert rollout.events == (
        Event(time=pytest.approx(entry), kind="enter", subject="red", side="left"),
        Event(time=pytest.approx(contact), kind="hit", subject="red", target="blue"),
        Event(time=pytest.approx(leaving), kind="leave", subject="blue", side="right"),
    )
    assert rollout.state("red", 9.0)[0] == pytest.approx(40.0 - 2 * RADIUS)
    assert rollout.state("red", 9.0)[2:] == (0.0, 0.0)


def test_a_square_pushes_and_both_go_on_at_half_the_speed():
    target = Body(color="blue", shape="circle", x=40.0, y=32.0)
    rollout = simulate(scene(mover(shape="square"), target))
    kinds = [(event.kind, event.subject) for event in rollout.events]
    assert kinds[:2] == [("enter", "red"), ("push", "red")]
    after = rollout.events[1].time + 0.5
    assert rollout.state("red", after)[2] == pytest.approx(8.0)
    assert rollout.state("blue", after)[2] == pytest.approx(8.0)
    assert kinds.count(("push", "red")) == 1


def test_the_wall_stops_and_holds():
    wall = Rectangle(left=50.0, right=54.0, top=10.0, bottom=50.0)
    rollout = simulate(scene(mover(), wall=wall))
    assert [event.kind for event in rollout.events] == ["enter", "block"]
    assert rollout.state("red", 9.0)[0] == pytest.approx(50.0 - RADIUS)


def test_without_the_cause_there_is_no_effect():
    target = Body(color="blue", shape="square", x=40.0, y=32.0)
    counterfactual = simulate(scene(mover(), target).without("red"))
    assert counterfactual.events == ()
    assert counterfactual.state("blue", 9.0)[:2] == (40.0, 32.0)


def test_momentum_is_kept_in_hits_between_free_bodies():
    slow = dataclasses.replace(mover("blue"), velocity_x=9.0, x=-RADIUS - 1)
    fast = dataclasses.replace(mover("red"), velocity_x=20.0, x=-RADIUS - 16)
    rollout = simulate(scene(slow, fast))
    hit = next(event for event in rollout.events if event.kind == "hit")
    assert (hit.subject, hit.target) == ("red", "blue")
    before = sum(rollout.state(color, hit.time - 1e-6)[2] for color in ("red", "blue"))
    after = sum(rollout.state(color, hit.time + 1e-6)[2] for color in ("red", "blue"))
    assert after == pytest.approx(before)


def test_bodies_that_are_apart_never_overlap(rollouts: list[Rollout]):
    """A few come into sight together, one partly before the other, and draw apart."""
    together = 0
    for rollout in rollouts:
        colors = [body.color for body in rollout.scene.bodies]
        for first, second in combinations(colors, 2):
            apart = True
            for step in range(100):
                if not all(rollout.present(color, step / 10) for color in (first, second)):
                    continue
                one, other = (rollout.state(color, step / 10) for color in (first, second))
                touching = math.dist(one[:2], other[:2]) < 2 * RADIUS - 1e-6
                came_so = apart and touching
                together += came_so
                assert not came_so or not all(
                    rollout.present(color, step / 10 - 0.1) for color in (first, second)
                )
                apart = not touching
    assert together <= 0.02 * len(rollouts)


def test_a_split_is_the_same_in_pieces_and_unlike_any_other_split(rollouts: list[Rollout]):
    whole = [rollout.scene for rollout in rollouts]
    assert whole[:3] == [rollout.scene for _, rollout in draw_rollouts("train", 3)]
    assert whole[7] == rollout_of("train", 7).scene
    seen = set(whole)
    assert len(seen) == len(whole)
    # Another seed is another world: test worlds are drawn with it.
    for split, seed in (("val", 0), ("test", 0), ("train", 1), ("test", 1), ("test", 2)):
        others = {rollout.scene for _, rollout in draw_rollouts(split, 12, seed)}
        assert len(others) == 12
        assert seen.isdisjoint(others)
        seen |= others
    pretraining = {draw_rollout(random.Random(f"pretraining/0/{i}")).scene for i in range(12)}
    assert seen.isdisjoint(pretraining)


def test_events_of_a_video_stand_apart_and_away_from_its_end(rollouts: list[Rollout]):
    for rollout in rollouts:
        times = [event.time for event in rollout.events]
        assert times == sorted(times)
        assert not any(VIDEO_SECONDS - 0.6 < time < VIDEO_SECONDS + 0.4 for time in times)
        # Between the video's end and this, events may follow each other closely.
        told = [time for time in times if time < VIDEO_SECONDS]
        assert all(later - earlier >= 0.25 for earlier, later in pairwise(told))
        assert any(event.kind in ("hit", "push", "block") for event in rollout.happened())


def test_the_screen_stops_nothing_and_hides_what_is_behind_it():
    bar = Rectangle(left=20.0, right=40.0, top=20.0, bottom=44.0)
    plain = simulate(scene(mover()))
    screened = simulate(dataclasses.replace(scene(mover()), screen=bar))
    assert screened.events == plain.events
    behind = (30.0 + RADIUS + 16.0) / 16.0
    assert screened.hidden("red", behind)
    assert screened.present("red", behind)
    assert not screened.visible("red", behind)
    assert plain.visible("red", behind)
    assert not screened.hidden("red", 1.5)


def test_what_the_wall_holds_stays_held_when_the_scene_goes_on():
    wall = Rectangle(left=50.0, right=54.0, top=10.0, bottom=50.0)
    rollout = simulate(scene(mover(), wall=wall))
    assert not rollout.is_held("red", 0.0)
    assert rollout.is_held("red", VIDEO_SECONDS)
    x, y, _, _ = rollout.state("red", VIDEO_SECONDS)
    held = Body(color="red", shape="circle", x=x, y=y, held=True)
    striker = dataclasses.replace(mover("blue"), y=y)
    later = simulate(scene(held, striker, wall=wall))
    assert [event.kind for event in later.events if event.target] == ["hit"]
    assert later.state("red", 9.0)[:2] == (x, y)


def test_a_body_comes_in_if_it_is_about_to_be_wholly_inside():
    assert mover().comes_in
    assert not dataclasses.replace(mover(), velocity_x=-16.0).comes_in
    assert not Body(color="red", shape="circle", x=32.0, y=32.0, velocity_x=5.0).comes_in
    # Half outside, and moving along the border.
    assert not Body(color="red", shape="circle", x=32.0, y=2.0, velocity_x=5.0).comes_in


def test_futures_differ_from_each_other_and_start_about_where_the_video_ends(
    rollouts: list[Rollout],
):
    rollout = next(
        rollout
        for rollout in rollouts
        if any(any(rollout.state(b.color, VIDEO_SECONDS)[2:]) for b in rollout.scene.bodies)
    )
    futures = perturbed_futures(rollout, 5, random.Random(0))
    for future in futures:
        for body in rollout.scene.bodies:
            x, y, *velocity = rollout.state(body.color, VIDEO_SECONDS)
            # What rests is seen where it is.
            far = 6 * POSITION_UNCERTAINTY if any(velocity) else 1e-9
            assert future.state(body.color, VIDEO_SECONDS)[:2] == pytest.approx((x, y), abs=far)
    assert len({future.events for future in futures}) > 1
    assert futures == perturbed_futures(rollout, 5, random.Random(0))
