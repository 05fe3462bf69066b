"""The physics of the microworld: coloured shapes that enter, hit, push, get blocked and leave.

Between contacts every object moves on a straight line, so the simulation jumps from event to event
and computes each contact time exactly; a scene costs well under a millisecond. Lengths are in world
units (the arena is ``ARENA`` units wide and high, x to the right and y down), times in seconds.

The rules, which the language model of the microworld knows and the pictures only hint at:

* circles and triangles are bouncy: hitting a resting object of equal mass hands it the whole speed;
* a square that runs into something pushes it: both go on together at half the speed;
* the wall stops whatever touches it and holds it there.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

ARENA = 64.0
RADIUS = 7.0
VIDEO_SECONDS = 6.0
"""Length of the video. Simulation goes on to ``HORIZON_SECONDS``, so that the future is known."""
HORIZON_SECONDS = 10.0

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle")
SIDES = ("left", "right", "top", "bottom")

Color = str
Side = str
EventKind = Literal["enter", "hit", "push", "block", "leave"]

_RESTING_SPEED = 3.0
"""Slower objects come to rest at a contact, so that "stopped" is never a matter of opinion."""
_MAX_EVENTS = 30
_TOUCH = 1e-6


@dataclass(frozen=True, kw_only=True)
class Body:
    """One object: its looks, and its state at the time the simulation starts."""

    color: Color
    shape: str
    x: float
    y: float
    velocity_x: float = 0.0
    velocity_y: float = 0.0

    @property
    def enters(self) -> bool:
        """True if the object starts outside of the arena."""
        return not (0 <= self.x <= ARENA and 0 <= self.y <= ARENA)


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A grey bar that stops what touches it; edges in world units."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that determines a video. A colour names a body: no two share one."""

    bodies: tuple[Body, ...]
    wall: Wall | None
    background: int
    """Grey level of the floor, 0 to 255."""

    def without(self, color: Color) -> "Scene":
        """The counterfactual scene in which the body of that colour does not exist."""
        return dataclasses.replace(
            self, bodies=tuple(body for body in self.bodies if body.color != color)
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened: ``subject`` does ``kind`` (to ``target``, at ``side``)."""

    time: float
    kind: EventKind
    subject: Color
    target: Color | None = None
    side: Side | None = None


@dataclass(frozen=True)
class _Segment:
    """From ``time`` on, each body moves on a straight line: positions and velocities by colour."""

    time: float
    states: dict[Color, tuple[float, float, float, float]]


@dataclass(frozen=True)
class Rollout:
    """A simulated scene: its event log in time order, and every body's state at any time."""

    scene: Scene
    events: tuple[Event, ...]
    segments: tuple[_Segment, ...]

    def state(self, color: Color, time: float) -> tuple[float, float, float, float]:
        """x, y and velocity of a body at ``time`` seconds."""
        current = self.segments[0]
        for segment in self.segments:
            if segment.time > time:
                break
            current = segment
        x, y, velocity_x, velocity_y = current.states[color]
        elapsed = time - current.time
        return x + velocity_x * elapsed, y + velocity_y * elapsed, velocity_x, velocity_y

    def body(self, color: Color) -> Body:
        """The body of that colour."""
        return next(body for body in self.scene.bodies if body.color == color)

    def happened(self, before: float = VIDEO_SECONDS, after: float = 0.0) -> list[Event]:
        """The events in ``[after, before)``, in time order."""
        return [event for event in self.events if after <= event.time < before]

    def visible(self, color: Color, time: float) -> bool:
        """Return whether any part of the body lies inside of the arena at ``time``."""
        x, y, _, _ = self.state(color, time)
        return -RADIUS < x < ARENA + RADIUS and -RADIUS < y < ARENA + RADIUS


class UnsettledSceneError(Exception):
    """The scene has more contacts than a viewer could tell apart; draw another one."""


@dataclass
class _Moving:
    """A body during simulation."""

    body: Body
    x: float
    y: float
    velocity_x: float
    velocity_y: float
    held: bool = False
    inside: bool = False
    gone: bool = False

    def advance(self, seconds: float) -> None:
        self.x += self.velocity_x * seconds
        self.y += self.velocity_y * seconds

    def settle(self) -> None:
        if math.hypot(self.velocity_x, self.velocity_y) < _RESTING_SPEED:
            self.velocity_x = self.velocity_y = 0.0


def simulate(scene: Scene, *, start: float = 0.0, horizon: float = HORIZON_SECONDS) -> Rollout:
    """Run the physics from ``start`` (the time of the bodies' states) to ``horizon``.

    Raises:
        UnsettledSceneError: More than thirty contacts.
    """
    bodies = [
        _Moving(body, body.x, body.y, body.velocity_x, body.velocity_y, inside=_touches_arena(body))
        for body in scene.bodies
    ]
    time = start
    events: list[Event] = []
    segments = [_segment(time, bodies)]
    last_contact: dict[frozenset[Color], float] = {}
    for _ in range(_MAX_EVENTS):
        delay, happening = _next_happening(bodies, scene.wall)
        if happening is None or time + delay >= horizon:
            return Rollout(scene, tuple(events), tuple(segments))
        time += delay
        for body in bodies:
            body.advance(delay)
        event = _resolve(happening, time)
        pair = frozenset((event.subject, event.target)) if event.target else None
        # A pushed object stays in contact; the viewer sees one push, not its numerical repetitions.
        repeated = pair is not None and time - last_contact.get(pair, -math.inf) < 1.0
        if pair is not None:
            last_contact[pair] = time
        if not repeated:
            events.append(event)
        segments.append(_segment(time, bodies))
    raise UnsettledSceneError(f"more than {_MAX_EVENTS} contacts")


_Happening = tuple[str, _Moving, "_Moving | Side | None"]


def _next_happening(bodies: list[_Moving], wall: Wall | None) -> tuple[float, _Happening | None]:
    best = math.inf
    happening: _Happening | None = None
    for index, first in enumerate(bodies):
        if first.gone:
            continue
        delay, side = _crossing_delay(first)
        if delay < best:
            best, happening = delay, ("cross", first, side)
        delay = _wall_delay(first, wall)
        if delay < best:
            best, happening = delay, ("block", first, None)
        for second in bodies[index + 1 :]:
            delay = _contact_delay(first, second)
            if delay < best:
                best, happening = delay, ("contact", first, second)
    return best, happening


def _resolve(happening: _Happening, time: float) -> Event:
    kind, first, other = happening
    if kind == "block":
        first.velocity_x = first.velocity_y = 0.0
        first.held = True
        return Event(time=time, kind="block", subject=first.body.color)
    if kind == "cross":
        assert isinstance(other, str)
        first.inside = not first.inside
        first.gone = not first.inside
        name: EventKind = "enter" if first.inside else "leave"
        return Event(time=time, kind=name, subject=first.body.color, side=other)
    assert isinstance(other, _Moving)
    return _collide(first, other, time)


def _collide(first: _Moving, second: _Moving, time: float) -> Event:
    """Exchange momentum along the line of centres; the faster approacher is the one that hits."""
    distance = math.hypot(second.x - first.x, second.y - first.y)
    normal_x, normal_y = (second.x - first.x) / distance, (second.y - first.y) / distance
    approach_first = first.velocity_x * normal_x + first.velocity_y * normal_y
    approach_second = -(second.velocity_x * normal_x + second.velocity_y * normal_y)
    hitter, struck = (first, second) if approach_first >= approach_second else (second, first)
    pushes = hitter.body.shape == "square"
    restitution = 0.0 if pushes else 1.0
    share_first = 0.0 if first.held else 1.0 if second.held else 0.5
    impulse = (1 + restitution) * (approach_first + approach_second)
    first.velocity_x -= impulse * share_first * normal_x
    first.velocity_y -= impulse * share_first * normal_y
    share_second = 0.0 if second.held else 1.0 if first.held else 0.5
    second.velocity_x += impulse * share_second * normal_x
    second.velocity_y += impulse * share_second * normal_y
    first.settle()
    second.settle()
    return Event(
        time=time,
        kind="push" if pushes else "hit",
        subject=hitter.body.color,
        target=struck.body.color,
    )


def _contact_delay(first: _Moving, second: _Moving) -> float:
    """Seconds until two discs touch while approaching, or infinity."""
    if second.gone or not (first.inside or second.inside):
        return math.inf
    dx, dy = second.x - first.x, second.y - first.y
    dvx, dvy = second.velocity_x - first.velocity_x, second.velocity_y - first.velocity_y
    approach = dx * dvx + dy * dvy
    speed_squared = dvx * dvx + dvy * dvy
    if approach >= -_TOUCH or speed_squared == 0:
        return math.inf
    gap = dx * dx + dy * dy - (2 * RADIUS) ** 2
    if gap <= _TOUCH:
        return 0.0
    discriminant = approach * approach - speed_squared * gap
    return math.inf if discriminant < 0 else (-approach - math.sqrt(discriminant)) / speed_squared


def _wall_delay(body: _Moving, wall: Wall | None) -> float:
    """Seconds until the disc's bounding square meets the wall, or infinity."""
    if wall is None or body.held or (body.velocity_x == 0 and body.velocity_y == 0):
        return math.inf
    enter, leave = 0.0, math.inf
    for position, velocity, low, high in (
        (body.x, body.velocity_x, wall.left - RADIUS, wall.right + RADIUS),
        (body.y, body.velocity_y, wall.top - RADIUS, wall.bottom + RADIUS),
    ):
        if velocity == 0:
            if not low < position < high:
                return math.inf
            continue
        first, second = sorted(((low - position) / velocity, (high - position) / velocity))
        enter, leave = max(enter, first), min(leave, second)
    return enter if enter < leave else math.inf


def _crossing_delay(body: _Moving) -> tuple[float, Side | None]:
    """Seconds until the body becomes visible or, once visible, until it has left; and the side."""
    low, high = -RADIUS, ARENA + RADIUS
    best: tuple[float, Side | None] = (math.inf, None)
    for position, velocity, names in (
        (body.x, body.velocity_x, ("left", "right")),
        (body.y, body.velocity_y, ("top", "bottom")),
    ):
        if velocity == 0:
            continue
        if body.inside:
            bound, side = (high, names[1]) if velocity > 0 else (low, names[0])
        else:
            bound, side = (low, names[0]) if velocity > 0 else (high, names[1])
        delay = (bound - position) / velocity
        if 0 <= delay < best[0]:
            best = (delay, side)
    return best


def _touches_arena(body: Body) -> bool:
    return -RADIUS < body.x < ARENA + RADIUS and -RADIUS < body.y < ARENA + RADIUS


def _segment(time: float, bodies: list[_Moving]) -> _Segment:
    return _Segment(time, {b.body.color: (b.x, b.y, b.velocity_x, b.velocity_y) for b in bodies})
