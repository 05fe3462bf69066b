"""Rectangles of the microworld: its walls and screens."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A wall or a screen: edges in world units."""

    left: float
    top: float
    right: float
    bottom: float

    def distance(self, x: float, y: float) -> float:
        """Return how far outside of the rectangle a point is; 0 inside."""
        return math.hypot(
            max(self.left - x, 0.0, x - self.right), max(self.top - y, 0.0, y - self.bottom)
        )

    def overlap(self, other: "Rectangle") -> float:
        """Return intersection over union."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(width, 0.0) * max(height, 0.0)
        both = sum((r.right - r.left) * (r.bottom - r.top) for r in (self, other))
        return shared / (both - shared)
