"""Drawing scenes: which objects stand where, which come in, and whether there is a wall."""

import dataclasses
import math
import random
from collections.abc import Iterator
from itertools import pairwise

from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    RADIUS,
    SHAPES,
    SIDES,
    VIDEO_SECONDS,
    Body,
    Color,
    Event,
    Rollout,
    Scene,
    UnsettledSceneError,
    Wall,
    simulate,
)

_WALL_THICKNESS = 4.0
_MIN_DISTANCE = 2 * RADIUS + 3.0


def draw_rollouts(split: str, count: int, seed: int = 0) -> Iterator[tuple[int, Rollout]]:
    """Yield ``count`` rollouts of a split, each with its index in the split.

    Every index has a random generator of its own, seeded by split, seed and index, so a split can
    be drawn in pieces and two splits never share a random stream (that they share no scene either
    is asserted by the tests).
    """
    for index in range(count):
        yield index, draw_rollout(random.Random(f"{split}/{seed}/{index}"))


def draw_rollout(generator: random.Random) -> Rollout:
    """Draw scenes until one tells a story: a contact, and nothing too dense to tell apart."""
    while True:
        scene = _draw_scene(generator)
        if scene is None:
            continue
        try:
            rollout = simulate(scene)
        except UnsettledSceneError:
            continue
        if _tells_a_story(rollout):
            return rollout


def perturbed_futures(rollout: Rollout, count: int, generator: random.Random) -> list[Rollout]:
    """Roll the last frame of the video on ``count`` times with slightly different velocities.

    Speeds differ by up to 15 % and directions by up to 8 degrees: what a viewer cannot tell. The
    share of the futures in which an event happens is the confidence that a careful prediction of it
    deserves.
    """
    futures: list[Rollout] = []
    while len(futures) < count:
        bodies = []
        for body in rollout.scene.bodies:
            x, y, velocity_x, velocity_y = rollout.state(body.color, VIDEO_SECONDS)
            angle = math.radians(generator.uniform(-8, 8))
            scale = generator.uniform(0.85, 1.15)
            turned_x = velocity_x * math.cos(angle) - velocity_y * math.sin(angle)
            turned_y = velocity_x * math.sin(angle) + velocity_y * math.cos(angle)
            bodies.append(
                dataclasses.replace(
                    body, x=x, y=y, velocity_x=scale * turned_x, velocity_y=scale * turned_y
                )
            )
        scene = dataclasses.replace(rollout.scene, bodies=tuple(bodies))
        try:
            futures.append(simulate(scene, start=VIDEO_SECONDS))
        except UnsettledSceneError:
            continue
    return futures


def _draw_scene(generator: random.Random) -> Scene | None:
    count = generator.choice((2, 3, 3, 4))
    colors = generator.sample(COLORS, count)
    num_entering = 1 if count == 2 else generator.choice((1, 2))
    resting = [_resting(color, generator) for color in colors[num_entering:]]
    if not _apart(resting):
        return None
    aims = generator.sample(resting, min(num_entering, len(resting)))
    aims += [generator.choice(resting)] * (num_entering - len(aims))
    entering = [
        _entering(color, aim, index, generator)
        for index, (color, aim) in enumerate(zip(colors[:num_entering], aims, strict=True))
    ]
    wall = _draw_wall(generator) if generator.random() < 0.5 else None
    if wall is not None and any(_overlaps(body, wall) for body in resting):
        return None
    bodies = resting + entering
    generator.shuffle(bodies)
    return Scene(bodies=tuple(bodies), wall=wall, background=generator.randrange(200, 246))


def _resting(color: Color, generator: random.Random) -> Body:
    margin = RADIUS + 4
    return Body(
        color=color,
        shape=generator.choice(SHAPES),
        x=generator.uniform(margin, ARENA - margin),
        y=generator.uniform(margin, ARENA - margin),
    )


def _entering(color: Color, aim: Body, index: int, generator: random.Random) -> Body:
    """A body that comes in straight, usually towards ``aim``."""
    side = generator.choice(SIDES)
    speed = generator.uniform(14, 24)
    delay = generator.uniform(0.2, 1.0) + index * generator.uniform(1.2, 2.2)
    lane_x, lane_y = aim.x, aim.y
    if generator.random() < 0.2:
        lane_x = generator.uniform(RADIUS, ARENA - RADIUS)
        lane_y = generator.uniform(RADIUS, ARENA - RADIUS)
    outside = RADIUS + speed * delay
    x, y, velocity_x, velocity_y = {
        "left": (-outside, lane_y, speed, 0.0),
        "right": (ARENA + outside, lane_y, -speed, 0.0),
        "top": (lane_x, -outside, 0.0, speed),
        "bottom": (lane_x, ARENA + outside, 0.0, -speed),
    }[side]
    return Body(
        color=color,
        shape=generator.choice(SHAPES),
        x=x,
        y=y,
        velocity_x=velocity_x,
        velocity_y=velocity_y,
    )


def _draw_wall(generator: random.Random) -> Wall:
    position = generator.uniform(4, ARENA - 4 - _WALL_THICKNESS)
    length = generator.uniform(24, 40)
    start = generator.uniform(2, ARENA - 2 - length)
    if generator.random() < 0.5:
        return Wall(
            left=position, right=position + _WALL_THICKNESS, top=start, bottom=start + length
        )
    return Wall(left=start, right=start + length, top=position, bottom=position + _WALL_THICKNESS)


def _apart(bodies: list[Body]) -> bool:
    return all(
        math.hypot(first.x - second.x, first.y - second.y) >= _MIN_DISTANCE
        for index, first in enumerate(bodies)
        for second in bodies[index + 1 :]
    )


def _overlaps(body: Body, wall: Wall) -> bool:
    gap = RADIUS + 1
    return (
        wall.left - gap < body.x < wall.right + gap and wall.top - gap < body.y < wall.bottom + gap
    )


def _tells_a_story(rollout: Rollout) -> bool:
    events = rollout.happened()
    contacts = [event for event in events if event.kind in ("hit", "push", "block")]
    if not contacts or len(events) > 7:
        return False
    # Every body must be seen, and early enough that the video can show what it is.
    for body in rollout.scene.bodies:
        if body.enters and not any(_enters_by(event, body.color, 4.0) for event in events):
            return False
    # No event may fall on the video's last moments.
    if any(VIDEO_SECONDS - 0.4 <= event.time < VIDEO_SECONDS + 0.2 for event in rollout.events):
        return False
    times = [event.time for event in events]
    return all(later - earlier >= 0.25 for earlier, later in pairwise(times))


def _enters_by(event: Event, color: Color, time: float) -> bool:
    return event.kind == "enter" and event.subject == color and event.time < time
