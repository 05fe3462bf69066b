"""The symmetries of the microworld: a story mirrored, turned or recoloured is a story again.

Nothing in the rules prefers a side or a colour, so that one drawn story gives many more. Only the
shapes stay: triangles point up.
"""

import dataclasses
import random
from collections.abc import Mapping
from typing import NamedTuple

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    Body,
    Color,
    Rollout,
    Scene,
    UnsettledSceneError,
    simulate,
)


class Symmetry(NamedTuple):
    """One of the eight symmetries of the square arena, and a permutation of the colours."""

    swaps_axes: bool
    """x becomes y; before the mirrors."""
    mirrors_x: bool
    mirrors_y: bool
    colors: Mapping[Color, Color]
    """The new colour of each."""

    def point(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point after it."""
        if self.swaps_axes:
            x, y = y, x
        return ARENA - x if self.mirrors_x else x, ARENA - y if self.mirrors_y else y

    def velocity(self, x: float, y: float) -> tuple[float, float]:
        """The velocity after it."""
        if self.swaps_axes:
            x, y = y, x
        return -x if self.mirrors_x else x, -y if self.mirrors_y else y

    def rectangle(self, rectangle: Rectangle | None) -> Rectangle | None:
        """The rectangle after it."""
        if rectangle is None:
            return None
        one = self.point(rectangle.left, rectangle.top)
        other = self.point(rectangle.right, rectangle.bottom)
        # A mirror exchanges opposite edges, which are to be in order again.
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(one, other, strict=True))
        return Rectangle(left=left, right=right, top=top, bottom=bottom)

    def body(self, body: Body) -> Body:
        """The body at its new place."""
        x, y = self.point(body.x, body.y)
        velocity_x, velocity_y = self.velocity(body.velocity_x, body.velocity_y)
        return dataclasses.replace(
            body,
            color=self.colors[body.color],
            x=x,
            y=y,
            velocity_x=velocity_x,
            velocity_y=velocity_y,
        )

    def scene(self, scene: Scene) -> Scene:
        """The scene with everything in it."""
        return dataclasses.replace(
            scene,
            bodies=tuple(self.body(body) for body in scene.bodies),
            wall=self.rectangle(scene.wall),
            screen=self.rectangle(scene.screen),
        )

    def rollout(self, rollout: Rollout) -> Rollout:
        """The story, simulated anew from its beginning.

        Raises:
            UnsettledSceneError: Rounding led to more contacts.
        """
        return simulate(self.scene(rollout.scene))


def draw_symmetry(generator: random.Random) -> Symmetry:
    """Draw one of all symmetries."""
    swaps_axes, mirrors_x, mirrors_y = (generator.random() < 0.5 for _ in range(3))
    colors = dict(zip(COLORS, generator.sample(COLORS, len(COLORS)), strict=True))
    return Symmetry(swaps_axes, mirrors_x, mirrors_y, colors)


def draw_view(story: Rollout, generator: random.Random) -> Rollout:
    """Return a story in one of all symmetries, or as it is where rounding spoils that."""
    try:
        return draw_symmetry(generator).rollout(story)
    except UnsettledSceneError:
        return story
