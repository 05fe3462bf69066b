import dataclasses
import random

import pytest

from vidreason.microworld.scenes import draw_rollout, draw_rollouts, perturbed_futures
from vidreason.microworld.simulation import (
    RADIUS,
    VIDEO_SECONDS,
    Body,
    Event,
    Scene,
    Wall,
    simulate,
)


def scene(*bodies: Body, wall: Wall | None = None) -> Scene:
    return Scene(bodies=bodies, wall=wall, background=230)


def mover(color: str = "red", shape: str = "circle", y: float = 32.0) -> Body:
    return Body(color=color, shape=shape, x=-RADIUS - 16.0, y=y, velocity_x=16.0)


def test_a_circle_hands_its_speed_to_what_it_hits():
    target = Body(color="blue", shape="square", x=40.0, y=32.0)
    rollout = simulate(scene(mover(), target))
    # Visible after 16 units; then 40 + RADIUS - 2 RADIUS to go, at 16 units a second.
    contact = 1.0 + (40.0 - RADIUS) / 16.0
    leaving = contact + (64.0 + RADIUS - 40.0) / 16.0
    assert rollout.events == (
        Event(time=pytest.approx(1.0), kind="enter", subject="red", side="left"),
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
    wall = Wall(left=50.0, right=54.0, top=10.0, bottom=50.0)
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


def test_no_two_bodies_ever_overlap():
    for _, rollout in draw_rollouts("overlap", 60):
        colors = [body.color for body in rollout.scene.bodies]
        for step in range(60):
            states = [rollout.state(color, step / 10) for color in colors]
            for index, first in enumerate(states):
                for second in states[index + 1 :]:
                    distance = ((first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2) ** 0.5
                    assert distance >= 2 * RADIUS - 1e-6


def test_a_split_is_the_same_in_pieces_and_unlike_any_other_split():
    whole = [rollout.scene for _, rollout in draw_rollouts("train", 30)]
    again = [rollout.scene for _, rollout in draw_rollouts("train", 10)]
    assert whole[:10] == again
    seen = set(whole)
    for split in ("val", "test"):
        assert seen.isdisjoint(rollout.scene for _, rollout in draw_rollouts(split, 30))
    assert seen.isdisjoint(r.scene for _, r in draw_rollouts("train", 30, seed=1))
    pretraining = {draw_rollout(random.Random(f"pretraining/0/{i}")).scene for i in range(30)}
    assert seen.isdisjoint(pretraining)


def test_events_of_a_video_stand_apart_and_away_from_its_end():
    for _, rollout in draw_rollouts("train", 100):
        times = [event.time for event in rollout.events]
        assert times == sorted(times)
        assert not any(VIDEO_SECONDS - 0.4 <= time < VIDEO_SECONDS + 0.2 for time in times)
        assert any(event.kind in ("hit", "push", "block") for event in rollout.happened())


def test_futures_differ_from_each_other_and_start_where_the_video_ends():
    rollout = next(
        rollout
        for _, rollout in draw_rollouts("train", 200)
        if any(event.time > VIDEO_SECONDS for event in rollout.events)
    )
    futures = perturbed_futures(rollout, 5, random.Random(0))
    for future in futures:
        for body in rollout.scene.bodies:
            expected = rollout.state(body.color, VIDEO_SECONDS)[:2]
            assert future.state(body.color, VIDEO_SECONDS)[:2] == pytest.approx(expected)
    assert len({future.events for future in futures}) > 1
