"""The physics of the microworld: coloured shapes that enter, hit, push, get blocked and leave.

Between contacts every object moves on a straight line, so the simulation jumps from event to event
and computes each contact time exactly; a scene costs well under a millisecond. Lengths are in world
units (the arena is ``ARENA`` units wide and high, x to the right and y down), times in seconds.

The rules, which the language model of the microworld knows and the pictures only hint at:

* circles and triangles are bouncy: hitting a resting object of equal mass hands it the whole speed;
* a square that runs into something pushes it: both go on together at half the speed;
* the wall stops whatever touches it and holds it there;
* behind the screen everything goes on as before, only nobody sees it.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vidreason.microworld.rectangle import Rectangle

ARENA = 64.0  # world units, the side of the square that is seen
RADIUS = 7.0  # world units, of every body
VIDEO_SECONDS = 6.0
"""Length of the video. Simulation goes on to ``HORIZON_SECONDS``, so that the future is known."""
HORIZON_SECONDS = 10.0
NEXT_KINDS = ("hit", "push", "block", "leave", "enter", "nothing")
"""Kinds of what happens next; "nothing" is that nothing happens until ``HORIZON_SECONDS``."""

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle")
SIDES = ("left", "right", "top", "bottom")

Color = str
Side = str
EventKind = Literal["enter", "hit", "push", "block", "leave"]

_RESTING_SPEED = 3.0
"""Slower objects come to rest at a contact, so that "stopped" is never a matter of opinion."""
_MAX_EVENTS = 30  # contacts of a story; more of them are bodies that jam
_TOUCH = 1e-6  # a squared gap, or a distance times a speed, below it is rounding


@dataclass(frozen=True, kw_only=True)
class Body:
    """One object: its looks, and its state at the time the simulation starts."""

    color: Color
    shape: str
    x: float
    y: float
    velocity_x: float = 0.0
    velocity_y: float = 0.0
    held: bool = False
    """True if the wall has stopped it before: nothing moves it any more."""

    @property
    def comes_in(self) -> bool:
        """True if the object is not wholly in the arena at the start and is about to be."""
        return not _wholly_inside(self.x, self.y) and not math.isinf(_entry_delay(self)[0])

    @property
    def moves(self) -> bool:
        """True if the object moves at the start."""
        return self.velocity_x != 0 or self.velocity_y != 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that determines a video. A colour names a body: no two share one."""

    bodies: tuple[Body, ...]
    wall: Rectangle | None
    """Stops what touches it and holds it."""
    background: int
    """Grey level of the floor, 0 to 255."""
    screen: Rectangle | None = None
    """Hides what is behind it, and stops nothing."""

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


class _Segment(NamedTuple):
    """From ``time`` on, each body moves on a straight line."""

    time: float
    states: dict[Color, tuple[float, float, float, float]]
    """x, y and velocity by colour."""
    held: frozenset[Color]
    """The bodies that the wall holds."""


@dataclass(frozen=True)
class Rollout:
    """A simulated scene: its event log in time order, and every body's state at any time."""

    scene: Scene
    events: tuple[Event, ...]
    segments: tuple[_Segment, ...]

    def state(self, color: Color, time: float) -> tuple[float, float, float, float]:
        """x, y and velocity of a body at ``time`` seconds."""
        current = self._segment_at(time)
        x, y, velocity_x, velocity_y = current.states[color]
        elapsed = time - current.time
        return x + velocity_x * elapsed, y + velocity_y * elapsed, velocity_x, velocity_y

    def is_held(self, color: Color, time: float) -> bool:
        """Return whether the wall holds the body at ``time`` seconds."""
        return color in self._segment_at(time).held

    def _segment_at(self, time: float) -> _Segment:
        current = self.segments[0]  # its lines hold backwards, too: scenes.py goes there
        for segment in self.segments:
            if segment.time > time:
                break
            current = segment
        return current

    def body(self, color: Color) -> Body:
        """The body of that colour."""
        return next(body for body in self.scene.bodies if body.color == color)

    def happened(self, before: float = VIDEO_SECONDS, after: float = 0.0) -> list[Event]:
        """The events in ``[after, before)``, in time order."""
        return [event for event in self.events if after <= event.time < before]

    def present(self, color: Color, time: float) -> bool:
        """Return whether the body is at least partly in the arena at ``time``, seen or hidden."""
        return _partly_inside(*self.state(color, time)[:2])

    def visible(self, color: Color, time: float) -> bool:
        """Return whether the body is partly in the arena at ``time``, and not behind the screen."""
        return self.present(color, time) and not self.hidden(color, time)

    def hidden(self, color: Color, time: float) -> bool:
        """Return whether the body's centre is behind the screen at ``time``."""
        screen = self.scene.screen
        return screen is not None and screen.distance(*self.state(color, time)[:2]) == 0

    def next_event(self) -> Event | None:
        """Return the first event after the video; None if nothing happens."""
        future = self.happened(before=HORIZON_SECONDS, after=VIDEO_SECONDS)
        return future[0] if future else None


class UnsettledSceneError(Exception):
    """The scene has more contacts than a viewer could tell apart; draw another one."""


@dataclass(slots=True)
class _Moving:
    """A body during simulation."""

    body: Body
    x: float
    y: float
    velocity_x: float
    velocity_y: float
    held: bool = False
    seen: bool = False
    """It has been partly in the arena: from then on it can touch others, and leave."""
    inside: bool = False
    """It has been wholly in the arena: it has entered."""
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
        _Moving(
            *(body, body.x, body.y, body.velocity_x, body.velocity_y, body.held),
            seen=_partly_inside(body.x, body.y),
            inside=_wholly_inside(body.x, body.y),
        )
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
        segments.append(_segment(time, bodies))
        if event is None:
            continue
        pair = frozenset((event.subject, event.target)) if event.target else None
        # A pushed object stays in contact; the viewer sees one push, not its numerical repetitions.
        repeated = pair is not None and time - last_contact.get(pair, -math.inf) < 1.0
        if pair is not None:
            last_contact[pair] = time
        if not repeated:
            events.append(event)
    raise UnsettledSceneError(f"more than {_MAX_EVENTS} contacts")


_Happening = tuple[str, _Moving, "_Moving | Side | None"]


def _next_happening(
    bodies: list[_Moving], wall: Rectangle | None
) -> tuple[float, _Happening | None]:
    best: float = math.inf
    happening: _Happening | None = None
    # What rests does nothing by itself; most bodies rest most of the time.
    moving = [body.velocity_x != 0 or body.velocity_y != 0 for body in bodies]
    for index, first in enumerate(bodies):
        if first.gone:
            continue
        if moving[index]:
            for kind, (delay, side) in (
                ("appear", _NEVER if first.seen else _arrival_delay(first, *_PARTLY)),
                ("enter", _NEVER if first.inside else _entry_delay(first)),
                ("leave", _leaving_delay(first) if first.seen else _NEVER),
            ):
                if delay < best:
                    best, happening = delay, (kind, first, side)
            if wall is not None:
                delay = _wall_delay(first, wall)
                if delay < best:
                    best, happening = delay, ("block", first, None)
        for other in range(index + 1, len(bodies)):
            if moving[index] or moving[other]:
                second = bodies[other]
                delay = _contact_delay(first, second)
                if delay < best:
                    best, happening = delay, ("contact", first, second)
    return best, happening


def _resolve(happening: _Happening, time: float) -> Event | None:
    """Change the bodies; return the event, None if a body comes into sight, which is none yet."""
    kind, first, other = happening
    if kind == "appear":
        first.seen = True
        return None
    if kind == "block":
        first.velocity_x = first.velocity_y = 0.0
        first.held = True
        return Event(time=time, kind="block", subject=first.body.color)
    if isinstance(other, str):
        name: EventKind = "enter" if kind == "enter" else "leave"
        first.inside, first.gone = name == "enter", name == "leave"
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
    share_first = 0.0 if first.held else 1.0 if second.held else 0.5  # masses are equal
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
    if second.gone or not (first.seen or second.seen):
        return math.inf
    dx, dy = second.x - first.x, second.y - first.y
    dvx, dvy = second.velocity_x - first.velocity_x, second.velocity_y - first.velocity_y
    approach = dx * dvx + dy * dvy
    speed_squared = dvx * dvx + dvy * dvy
    if approach >= -_TOUCH or speed_squared == 0:  # they part, or keep their distance
        return math.inf
    gap = dx * dx + dy * dy - (2 * RADIUS) ** 2  # then the smaller root of |d + v t| = 2 RADIUS
    if gap <= _TOUCH:
        return 0.0
    discriminant = approach * approach - speed_squared * gap
    return math.inf if discriminant < 0 else (-approach - math.sqrt(discriminant)) / speed_squared


def _wall_delay(body: _Moving, wall: Rectangle) -> float:
    """Seconds until the disc's bounding square meets the wall, or infinity."""
    if body.held:
        return math.inf
    enter, leave = 0.0, math.inf  # the bounds of the wall grown by RADIUS, on both axes at once
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


_Delay = tuple[float, "Side | None"]
_NEVER: _Delay = (math.inf, None)
_PARTLY, _WHOLLY = (-RADIUS, ARENA + RADIUS), (RADIUS, ARENA - RADIUS)
"""Bounds between which a centre lies when a body is partly, or wholly, in the arena."""


def _entry_delay(body: "_Moving | Body") -> _Delay:
    """Seconds until the body is wholly in the arena, and the side it comes from; or infinity."""
    return _arrival_delay(body, *_WHOLLY)


def _arrival_delay(body: "_Moving | Body", low: float, high: float) -> _Delay:
    """Seconds until the centre lies between ``low`` and ``high`` on both axes, and the side."""
    arrival, departure, side = 0.0, math.inf, None
    for position, velocity, names in (
        (body.x, body.velocity_x, ("left", "right")),
        (body.y, body.velocity_y, ("top", "bottom")),
    ):
        if velocity == 0:
            if not low <= position <= high:
                return _NEVER
            continue
        first, second = sorted(((low - position) / velocity, (high - position) / velocity))
        if first > arrival:  # the axis that comes in last tells the side
            arrival, side = first, names[0] if velocity > 0 else names[1]
        departure = min(departure, second)
    return (arrival, side) if side is not None and arrival < departure else _NEVER


def _leaving_delay(body: _Moving) -> _Delay:
    """Seconds until a body that has been seen is wholly outside, and the side; or infinity."""
    best = _NEVER
    for position, velocity, names in (
        (body.x, body.velocity_x, ("left", "right")),
        (body.y, body.velocity_y, ("top", "bottom")),
    ):
        if velocity != 0:
            bound, side = (ARENA + RADIUS, names[1]) if velocity > 0 else (-RADIUS, names[0])
            delay = (bound - position) / velocity
            if 0 <= delay < best[0]:
                best = (delay, side)
    return best


def _partly_inside(x: float, y: float) -> bool:
    return all(_PARTLY[0] < edge < _PARTLY[1] for edge in (x, y))


def _wholly_inside(x: float, y: float) -> bool:
    return all(_WHOLLY[0] <= edge <= _WHOLLY[1] for edge in (x, y))


def _segment(time: float, bodies: list[_Moving]) -> _Segment:
    return _Segment(
        time,
        {b.body.color: (b.x, b.y, b.velocity_x, b.velocity_y) for b in bodies},
        frozenset(b.body.color for b in bodies if b.held),
    )
