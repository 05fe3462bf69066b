"""The state of the world as far as it can be read off perceived tokens, and its straight future.

Linear probes of object tokens, fitted on training videos by ridge regression, tell what a token
shows (a colour's body, the wall, the screen), its shape, its centre and its velocity. From them
comes a scene of the last key frame, which the simulator rolls on: bodies go straight until they
touch, as a careful viewer with a ruler would reckon. It is the strong baseline of prediction, and
its errors say how uncertain the world is to a viewer (``scenes.POSITION_UNCERTAINTY`` and others).

Shapes: N object tokens, D width of the tokens.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    RADIUS,
    SHAPES,
    Body,
    Rollout,
    Scene,
    UnsettledSceneError,
    simulate,
)
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens

_THINGS = (*COLORS, "wall", "screen", "other")
_WALL, _SCREEN, _OTHER = range(len(COLORS), len(_THINGS))
_PENALTY = 1e-3  # of ridge regression, beside a mean square of the inputs
_MATCH = 5.0  # world units between a mask's centre and the body that it shows
_RESTING_SPEED = 2.0  # world units a second below which a perceived body counts as resting
_SPEED_UNIT = 10.0  # world units a second; velocities are read divided by it, to about 1
_AGREEMENT = 6.0  # world units a second between two readings of one velocity


@dataclass(frozen=True)
class PerceivedBody:
    """A body as one object token shows it."""

    color: str
    shape: str
    time: float
    """Seconds of the key frame."""
    x: float
    y: float
    velocity_x: float
    velocity_y: float


class StateProbe:
    """Linear read-outs of object tokens.

    Args:
        videos: Tokens of training videos with what happens in them.

    Raises:
        ValueError: No token shows a body.
    """

    def __init__(self, videos: Iterable[tuple[VisualTokens, Rollout]]) -> None:
        inputs, targets, on_body = [], [], []
        for tokens, rollout in videos:
            described = _described(tokens)
            if len(described):
                truths = [_truth(rollout, *row) for row in zip(*_where(tokens), strict=True)]
                inputs.append(described)
                targets.append(torch.tensor([truth for truth, _ in truths], dtype=torch.float64))
                on_body += [is_body for _, is_body in truths]
        if not any(on_body):
            raise ValueError("videos: no object token shows a body of the microworld")
        features, truth = torch.cat(inputs), torch.cat(targets)
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        standard = self._standardised(features)
        body = torch.tensor(on_body)
        things = len(_THINGS)
        # Every token tells what it shows, but only bodies have a state to learn from.
        self._thing = _ridge(standard, truth[:, :things])
        self._state = _ridge(standard[body], truth[body, things:])

    def bodies(self, tokens: VisualTokens) -> list[PerceivedBody]:
        """Return the bodies that object tokens show, in the tokens' order.

        A velocity is the way since the key frame before by the time, which is sharper than what one
        token tells; where the two differ much, the body has met something in between, and the token
        is right.
        """
        seen: dict[str, PerceivedBody] = {}
        bodies = []
        for body in self._single_bodies(tokens):
            before = seen.get(body.color)
            seen[body.color] = body
            if before is not None and body.time > before.time:
                elapsed = body.time - before.time
                way_x, way_y = (body.x - before.x) / elapsed, (body.y - before.y) / elapsed
                if math.dist((way_x, way_y), (body.velocity_x, body.velocity_y)) < _AGREEMENT:
                    body = replace(body, velocity_x=way_x, velocity_y=way_y)
            bodies.append(_at_rest_if_slow(body))
        return bodies

    def _single_bodies(self, tokens: VisualTokens) -> list[PerceivedBody]:
        """Return the bodies, each as its own token alone tells."""
        described = self._standardised(_described(tokens))
        things = self._things(described)
        # (N, D + 12) @ (D + 12, shapes + 4) -> (N, shapes + 4)
        states = described @ self._state
        bodies = []
        for thing, state, (box, time) in zip(
            things, states, zip(*_where(tokens), strict=True), strict=True
        ):
            if thing < len(COLORS):
                x, y = _centre(box)
                dx, dy, velocity_x, velocity_y = state[len(SHAPES) :].tolist()
                shape = SHAPES[int(state[: len(SHAPES)].argmax())]
                velocity_x, velocity_y = _SPEED_UNIT * velocity_x, _SPEED_UNIT * velocity_y
                bodies.append(
                    PerceivedBody(
                        *(COLORS[thing], shape, time, x + dx, y + dy, velocity_x, velocity_y)
                    )
                )
        return bodies

    def scene(self, tokens: VisualTokens) -> tuple[Scene, float]:
        """Return the scene at the last key frame, and that frame's time in seconds.

        Bodies that only earlier key frames show have gone straight on since, unless they have left.
        """
        boxes, times = _where(tokens)
        things = self._things(self._standardised(_described(tokens)))
        last = max(times, default=0.0)
        newest = {body.color: body for body in sorted(self.bodies(tokens), key=lambda b: b.time)}
        bodies = []
        for body in newest.values():
            elapsed = last - body.time
            x, y = body.x + elapsed * body.velocity_x, body.y + elapsed * body.velocity_y
            if all(-RADIUS < edge < ARENA + RADIUS for edge in (x, y)):
                bodies.append(
                    Body(
                        color=body.color,
                        shape=body.shape,
                        x=x,
                        y=y,
                        velocity_x=body.velocity_x,
                        velocity_y=body.velocity_y,
                    )
                )
        bars = {
            thing: _rectangle(box)
            for thing, box in zip(things, boxes, strict=True)
            if thing in (_WALL, _SCREEN)
        }
        scene = Scene(
            bodies=tuple(bodies),
            wall=bars.get(_WALL),
            background=0,
            screen=bars.get(_SCREEN),
        )
        return scene, last

    def rollout(self, tokens: VisualTokens) -> Rollout | None:
        """Roll the perceived scene on; None where the reckoning finds no end of contacts."""
        scene, time = self.scene(tokens)
        try:
            return simulate(scene, start=time)
        except UnsettledSceneError:
            return None

    def _things(self, described: Tensor) -> list[int]:
        """Return the numbers of what tokens show, of their standardised descriptions."""
        things: list[int] = (described @ self._thing).argmax(1).tolist()
        return things

    def _standardised(self, features: Tensor) -> Tensor:
        standard = (features - self._mean) / self._scale
        # The column of ones is the intercept: (N, D + 12)
        return torch.cat([standard, torch.ones(len(standard), 1, dtype=standard.dtype)], dim=1)


def _at_rest_if_slow(body: PerceivedBody) -> PerceivedBody:
    slow = math.hypot(body.velocity_x, body.velocity_y) < _RESTING_SPEED
    return replace(body, velocity_x=0.0, velocity_y=0.0) if slow else body


def _described(tokens: VisualTokens) -> Tensor:
    """Features and geometry of the object tokens, shape ``(N, D + 11)``, float64."""
    is_object = tokens.kinds == OBJECT_TOKEN
    boxes = tokens.boxes[is_object].double()
    area = tokens.areas[is_object].double()[:, None]
    sides = boxes[:, 2:] - boxes[:, :2]
    # Share of its box that a mask fills: (N, 1)
    fill = area / sides.prod(1, keepdim=True).clamp(min=1e-6)
    shape = torch.cat([sides, fill, area], dim=1)  # (N, 2 + 1 + 1)
    features = tokens.features[is_object].double()
    # Squares of sides and fill, because the read-outs are linear: (N, D + 4 + 4 + 3)
    return torch.cat([features, boxes, shape, shape[:, :3] ** 2], dim=1)


def _where(tokens: VisualTokens) -> tuple[list[list[float]], list[float]]:
    is_object = tokens.kinds == OBJECT_TOKEN
    boxes: list[list[float]] = tokens.boxes[is_object].tolist()
    times: list[float] = tokens.spans[is_object, 0].tolist()
    return boxes, times


def _centre(box: Sequence[float]) -> tuple[float, float]:
    return ARENA * (box[0] + box[2]) / 2, ARENA * (box[1] + box[3]) / 2


def _rectangle(box: Sequence[float]) -> Rectangle:
    left, top, right, bottom = (ARENA * edge for edge in box)
    return Rectangle(left=left, top=top, right=right, bottom=bottom)


def _truth(rollout: Rollout, box: Sequence[float], time: float) -> tuple[list[float], bool]:
    """One-hot thing and shape, offset of the centre, velocity; and whether it is a body."""
    x, y = _centre(box)
    distances = {
        body.color: math.dist((x, y), rollout.state(body.color, time)[:2])
        for body in rollout.scene.bodies
        if rollout.visible(body.color, time)
    }
    nearest = min(distances, key=lambda color: distances[color], default="")
    bars = {_WALL: rollout.scene.wall, _SCREEN: rollout.scene.screen}
    thing = _OTHER
    for number, bar in bars.items():
        if bar is not None and _rectangle(box).overlap(bar) > 0.5:
            thing = number
    state = [0.0] * (len(SHAPES) + 4)
    if nearest and distances[nearest] < _MATCH and thing == _OTHER:
        thing = COLORS.index(nearest)
        true_x, true_y, velocity_x, velocity_y = rollout.state(nearest, time)
        state[SHAPES.index(rollout.body(nearest).shape)] = 1.0
        motion = [velocity_x / _SPEED_UNIT, velocity_y / _SPEED_UNIT]
        state[len(SHAPES) :] = [true_x - x, true_y - y, *motion]
    one_hot = [float(number == thing) for number in range(len(_THINGS))]
    return one_hot + state, thing < len(COLORS)


def _ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    gram = inputs.T @ inputs / len(inputs)
    penalty = _PENALTY * torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram + penalty, inputs.T @ targets / len(inputs))
    return weights
