"""Drawing scenes: a part of a longer story, cut shortly before what happens next.

A story is drawn (which objects stand where, which come in, whether there are a wall and a screen)
and simulated. The video is six seconds of it whose end lies shortly before an event of a kind that
is drawn first, so that every kind of future is equally frequent: a video by itself says nothing
about it. The bodies' states at the video's beginning are a scene of their own, so that it can be
simulated again, with a body less or a little otherwise.
"""

import dataclasses
import math
import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, pairwise

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    HORIZON_SECONDS,
    NEXT_KINDS,
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
    simulate,
)

_STORY_SECONDS = 15.0  # of a simulated story, of which a video is cut out
_WALL_THICKNESS = 4.0  # world units, as all lengths here
_SCREEN_WIDTH = 2 * RADIUS + 4.0
_MIN_DISTANCE = 2 * RADIUS + 3.0
_MAX_SEEN_AT_ONCE = 4
_EARLIEST_NEXT, _LATEST_NEXT = 0.4, 2.5  # seconds from the video's end to what happens next
_QUIET_BEFORE_END = 0.6  # seconds in which the last event can be seen to be over
_MIN_GAP = 0.25  # seconds between two events that a viewer can order
_SEEN_LONG_ENOUGH = 0.75  # seconds for which each body is seen
_SEEN_COMING_IN = 0.25  # seconds for which one is seen that is still coming in when the video ends
_PREDICTABLE_PART = 4.0  # world units of a body in sight that is about to come in
_SCREEN_TRIES = 8
_EVENTFUL = 3  # events in a video
_SCREEN_SHARE = 0.25  # of the videos that have a screen, as far as one fits in

POSITION_UNCERTAINTY = 0.6
"""Standard deviation of a moving body's position at the video's end, in world units."""
SPEED_UNCERTAINTY = 0.2
"""Standard deviation of its speed, as a share."""
DIRECTION_UNCERTAINTY = 6.5
"""Standard deviation of its direction, in degrees."""


def draw_rollouts(split: str, count: int, seed: int = 0) -> Iterator[tuple[int, Rollout]]:
    """Yield ``count`` rollouts of a split, each with its index in the split.

    Every index has a random generator of its own, seeded by split, seed and index, so a split can
    be drawn in pieces and two splits never share a random stream (that they share no scene either
    is asserted by the tests). Each six rollouts in a row have all kinds of what happens next.
    """
    for index in range(count):
        yield index, rollout_of(split, index, seed)


def rollout_of(split: str, index: int, seed: int = 0) -> Rollout:
    """Draw one rollout of a split, see :func:`draw_rollouts`."""
    # Each six videos have all kinds, in an order of their own: the index says nothing of the kind.
    block, number = divmod(index, len(NEXT_KINDS))
    order = random.Random(f"{split}/{seed}/kinds/{block}").sample(NEXT_KINDS, len(NEXT_KINDS))
    return draw_rollout(random.Random(f"{split}/{seed}/{index}"), order[number])


def draw_rollout(generator: random.Random, next_kind: str | None = None) -> Rollout:
    """Draw stories until one has a video after which ``next_kind`` happens.

    Args:
        generator: Everything is drawn from it.
        next_kind: One of ``NEXT_KINDS``; None to draw one.
    """
    kind = generator.choice(NEXT_KINDS) if next_kind is None else next_kind
    while True:
        scene = _draw_scene(generator)
        if scene is None or not _can_happen(kind, scene):
            continue
        try:
            story = simulate(scene, horizon=_STORY_SECONDS + HORIZON_SECONDS - VIDEO_SECONDS)
        except UnsettledSceneError:
            continue
        cuts = list(_cuts(story, kind, generator))
        generator.shuffle(cuts)
        for rollout in filter(None, (_video_that_ends_at(story, cut) for cut in cuts)):
            if _next_kind(rollout) != kind or not _tells_a_story(rollout):
                continue
            # Many stories are short; fewer of them leave the videos as eventful as they should be.
            if len(rollout.happened()) < _EVENTFUL and generator.random() < 0.7:
                continue
            screened = generator.random() < _SCREEN_SHARE
            return _with_screen(rollout, generator) if screened else rollout


def _can_happen(kind: str, scene: Scene) -> bool:
    """Return whether the scene has what an event of the kind needs."""
    needs = {
        "hit": any(body.shape != "square" for body in scene.bodies),
        "push": any(body.shape == "square" for body in scene.bodies),
        "block": scene.wall is not None,
    }
    return needs.get(kind, True)


def perturbed_futures(rollout: Rollout, count: int, generator: random.Random) -> list[Rollout]:
    """Roll the video's last moment on ``count`` times, as differently as it can be seen.

    Positions and velocities of moving bodies are drawn around the true ones with the standard
    deviations that are left when they are read off the perceived tokens, see
    ``tests/microworld/test_uncertainty.py``, alike for a pushed body and its pusher. The share of
    futures in which an event comes next is its true probability for a viewer who sees no better.
    """
    leaders = _leaders(rollout)
    moving = [color for color in leaders if any(rollout.state(color, VIDEO_SECONDS)[2:])]
    deviations = (*[POSITION_UNCERTAINTY] * 2, DIRECTION_UNCERTAINTY, SPEED_UNCERTAINTY)
    futures: list[Rollout] = []
    while len(futures) < count:
        noise = {color: [generator.gauss(0, each) for each in deviations] for color in moving}
        noises = [noise.get(leader, (0.0,) * 4) for leader in leaders.values()]
        bodies = map(partial(_perturbed, rollout), rollout.scene.bodies, noises)
        scene = dataclasses.replace(rollout.scene, bodies=tuple(bodies))
        try:
            futures.append(simulate(scene, start=VIDEO_SECONDS))
        except UnsettledSceneError:
            continue
    return futures


def _leaders(rollout: Rollout) -> dict[Color, Color]:
    """Return each body's colour, or that of an earlier one which it touches and goes on with."""
    leaders: dict[Color, Color] = {}
    for body in rollout.scene.bodies:
        state = rollout.state(body.color, VIDEO_SECONDS)
        leaders[body.color] = body.color
        for other, leader in leaders.items():
            beside = rollout.state(other, VIDEO_SECONDS)
            touches = math.dist(state[:2], beside[:2]) < 2 * RADIUS + 1e-3
            if touches and math.dist(state[2:], beside[2:]) < 1e-3:
                leaders[body.color] = leader
    return leaders


def _perturbed(rollout: Rollout, body: Body, noise: Sequence[float]) -> Body:
    x, y, velocity_x, velocity_y = rollout.state(body.color, VIDEO_SECONDS)
    angle, scale = math.radians(noise[2]), math.exp(noise[3])
    return dataclasses.replace(
        body,
        x=x + noise[0],
        y=y + noise[1],
        velocity_x=scale * (velocity_x * math.cos(angle) - velocity_y * math.sin(angle)),
        velocity_y=scale * (velocity_x * math.sin(angle) + velocity_y * math.cos(angle)),
        held=rollout.is_held(body.color, VIDEO_SECONDS),
    )


def _draw_scene(generator: random.Random) -> Scene | None:
    count = generator.choice((2, 3, 3, 4, 4, 5))
    colors = generator.sample(COLORS, count)
    num_entering = generator.choice((1, 1, 2)) if count < 4 else generator.choice((2, 2, 3))
    resting = [_resting(color, generator) for color in colors[num_entering:]]
    if not resting or not _apart(resting):
        return None
    aims = generator.sample(resting, min(num_entering, len(resting)))
    aims += [generator.choice(resting) for _ in range(num_entering - len(aims))]
    entering = [
        _entering(color, aim, index, generator)
        for index, (color, aim) in enumerate(zip(colors[:num_entering], aims, strict=True))
    ]
    wall = _draw_wall(generator) if generator.random() < 0.6 else None
    if wall is not None and any(
        wall.distance(body.x, body.y) < _WALL_CLEARANCE for body in resting
    ):
        return None
    bodies = resting + entering
    generator.shuffle(bodies)
    return Scene(bodies=tuple(bodies), wall=wall, background=generator.randrange(200, 246))


_WALL_CLEARANCE = math.hypot(RADIUS, RADIUS) + 1.0


def _resting(color: Color, generator: random.Random) -> Body:
    margin = RADIUS + 4
    return Body(
        color=color,
        shape=generator.choice(SHAPES),
        x=generator.uniform(margin, ARENA - margin),
        y=generator.uniform(margin, ARENA - margin),
    )


def _entering(color: Color, aim: Body, index: int, generator: random.Random) -> Body:
    """Draw a body that comes in straight, usually towards ``aim``."""
    side = generator.choice(SIDES)
    speed = generator.uniform(12, 24)
    delay = generator.uniform(0.2, 2.5) + index * generator.uniform(1.2, 3.5)
    lane_x, lane_y = aim.x, aim.y
    if generator.random() < 0.25:
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


def _draw_wall(generator: random.Random) -> Rectangle:
    position = generator.uniform(4, ARENA - 4 - _WALL_THICKNESS)
    length = generator.uniform(24, 40)
    start = generator.uniform(2, ARENA - 2 - length)
    across, along = (position, position + _WALL_THICKNESS), (start, start + length)
    upright = generator.random() < 0.5
    (left, right), (top, bottom) = (across, along) if upright else (along, across)
    return Rectangle(left=left, right=right, top=top, bottom=bottom)


def _with_screen(rollout: Rollout, generator: random.Random) -> Rollout:
    """Put a screen where a moving body passes or is when the video ends, if events allow it."""
    for _ in range(_SCREEN_TRIES):
        time = generator.choice((VIDEO_SECONDS, generator.uniform(1.0, VIDEO_SECONDS)))
        moving = [
            body.color
            for body in rollout.scene.bodies
            if any(rollout.state(body.color, time)[2:]) and rollout.visible(body.color, time)
        ]
        if not moving:
            continue
        x, y, _, _ = rollout.state(generator.choice(moving), time)
        across = generator.uniform(-0.3, 0.3) * _SCREEN_WIDTH
        length = generator.uniform(26, 40)
        along = generator.uniform(-0.3, 0.3) * length
        upright = generator.random() < 0.5
        centre_x, centre_y = (x + across, y + along) if upright else (x + along, y + across)
        width, height = (_SCREEN_WIDTH, length) if upright else (length, _SCREEN_WIDTH)
        screen = Rectangle(
            left=max(centre_x - width / 2, 0.0),
            right=min(centre_x + width / 2, ARENA),
            top=max(centre_y - height / 2, 0.0),
            bottom=min(centre_y + height / 2, ARENA),
        )
        if min(screen.right - screen.left, screen.bottom - screen.top) < _SCREEN_WIDTH / 2:
            continue
        scene = dataclasses.replace(rollout.scene, screen=screen)
        screened = dataclasses.replace(rollout, scene=scene)
        if _tells_a_story(screened):
            return screened
    return rollout


def _apart(bodies: list[Body]) -> bool:
    return all(
        math.hypot(first.x - second.x, first.y - second.y) >= _MIN_DISTANCE
        for index, first in enumerate(bodies)
        for second in bodies[index + 1 :]
    )


def _cuts(story: Rollout, kind: str, generator: random.Random) -> Iterator[float]:
    """Yield times at which a video could end so that the next event is of this kind."""
    times = [event.time for event in story.events]
    if kind == "nothing":
        # Before a pause that is longer than the future that is looked at.
        for start, end in pairwise([*times, math.inf]):
            earliest = start + _QUIET_BEFORE_END
            latest = min(end - (HORIZON_SECONDS - VIDEO_SECONDS), start + 2.5)
            if _FIRST_CUT <= earliest < latest:
                yield generator.uniform(earliest, min(latest, _STORY_SECONDS))
        return
    before: list[Event | None] = [None, *story.events]
    for last, event in zip(before, story.events, strict=False):
        if event.kind != kind:
            continue
        earliest = event.time - _LATEST_NEXT
        if last is not None:
            earliest = max(earliest, last.time + _QUIET_BEFORE_END)
        latest = event.time - _EARLIEST_NEXT
        if _FIRST_CUT <= earliest < latest <= _STORY_SECONDS:
            yield generator.uniform(earliest, latest)


_FIRST_CUT = 3.5
"""Before it, too little has happened. The video then begins before the story: it stands still, and
what comes in is further away."""


def _video_that_ends_at(story: Rollout, cut: float) -> Rollout | None:
    """Simulate the six seconds before ``cut``, with the bodies that are seen in them."""
    start = cut - VIDEO_SECONDS
    bodies = []
    for body in story.scene.bodies:
        if not _is_seen(story, body.color, max(start, 0.0), cut):
            continue
        # Before the story begins everything moves on as it does at its beginning.
        x, y, velocity_x, velocity_y = story.state(body.color, start)
        bodies.append(
            dataclasses.replace(
                body,
                x=x,
                y=y,
                velocity_x=velocity_x,
                velocity_y=velocity_y,
                held=story.is_held(body.color, start),
            )
        )
    try:
        return simulate(dataclasses.replace(story.scene, bodies=tuple(bodies)))
    except UnsettledSceneError:
        return None


def _is_seen(story: Rollout, color: Color, start: float, end: float) -> bool:
    num_times = max(round((end - start) * 8), 1)
    times = (start + (end - start) * number / num_times for number in range(num_times + 1))
    return any(story.visible(color, time) for time in times)


def _next_kind(rollout: Rollout) -> str | None:
    """Return the kind of the next event; None if it is too early or too late to tell."""
    event = rollout.next_event()
    if event is None:
        return "nothing"
    if not _EARLIEST_NEXT <= event.time - VIDEO_SECONDS <= _LATEST_NEXT:
        return None
    return event.kind


def _tells_a_story(rollout: Rollout) -> bool:
    """Return whether the video shows a contact, all that is needed, and nothing too dense."""
    events = rollout.happened()
    contacts = [event for event in events if event.kind in ("hit", "push", "block")]
    if not contacts or not 2 <= len(events) <= 8 or len(rollout.scene.bodies) < 2:
        return False
    # What happened just before the video cannot be seen, nor what happens in its last moments.
    if events[0].time < _MIN_GAP or events[-1].time > VIDEO_SECONDS - _QUIET_BEFORE_END:
        return False
    times = [event.time for event in rollout.events if event.time < VIDEO_SECONDS + _LATEST_NEXT]
    if any(later - earlier < _MIN_GAP for earlier, later in pairwise(times)):
        return False
    if any(_is_behind_screen(rollout, event) for event in events):
        return False
    return _is_told_by_what_is_seen(rollout)


def _is_behind_screen(rollout: Rollout, event: Event) -> bool:
    colors = [color for color in (event.subject, event.target) if color is not None]
    return event.kind != "leave" and any(rollout.hidden(color, event.time) for color in colors)


def _is_told_by_what_is_seen(rollout: Rollout) -> bool:
    """Return whether all bodies, and what they are about to do, can be known of the video."""
    num_times = round(VIDEO_SECONDS * 8)
    for number in range(0, num_times + 1, 4):
        time = VIDEO_SECONDS * number / num_times
        seen = [b.color for b in rollout.scene.bodies if rollout.visible(b.color, time)]
        if len(seen) > _MAX_SEEN_AT_ONCE or _overlap(rollout, seen, time):
            return False
    for body in rollout.scene.bodies:
        times = (VIDEO_SECONDS * number / num_times for number in range(num_times))
        seconds = sum(_is_well_in_sight(rollout, body.color, time) for time in times) / 8
        # What is still coming in has had little time to be seen.
        comes_in = body.comes_in and all(
            event.subject != body.color for event in rollout.happened() if event.kind == "enter"
        )
        if seconds < (_SEEN_COMING_IN if comes_in else _SEEN_LONG_ENOUGH):
            return False
    return True


def _overlap(rollout: Rollout, colors: Sequence[Color], time: float) -> bool:
    """Return whether two bodies cover each other, as two that come into sight together might."""
    centres = [rollout.state(color, time)[:2] for color in colors]
    return any(math.dist(one, other) < 2 * RADIUS - 1e-3 for one, other in combinations(centres, 2))


def _is_well_in_sight(rollout: Rollout, color: Color, time: float) -> bool:
    x, y, _, _ = rollout.state(color, time)
    inside = min(x, y, ARENA - x, ARENA - y) + RADIUS
    return inside >= _PREDICTABLE_PART and not rollout.hidden(color, time)
