"""Checks of numbers in configurations."""

import math
from math import inf

ABOVE_0 = math.nextafter(0.0, 1.0)
"""Lower bound of numbers that must not be 0."""
BELOW_1 = math.nextafter(1.0, 0.0)
"""Upper bound of numbers that must not be 1."""


def check_ranges(section: str, config: object, **ranges: tuple[float, float]) -> None:
    """Make sure that fields of ``config`` lie in their ranges; None is left alone.

    Args:
        section: Its key path in an experiment's configuration, for messages; empty for the top.
        config: A configuration dataclass.
        ranges: By field: the smallest and the largest value; ``inf`` for no largest one.

    Raises:
        ValueError: Some do not; all are named.
    """
    problems = []
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        # NaN lies in no range.
        if value is not None and not low <= value <= high:
            path = f"{section}.{name}" if section else name
            problems.append(f"{path} is {value}; it must be {_bounds(low, high)}")
    if problems:
        raise ValueError("; ".join(problems))


def _bounds(low: float, high: float) -> str:
    lower = "above 0" if low == ABOVE_0 else f"at least {low:,}"
    if high == inf:
        return lower
    if low == ABOVE_0 or high == BELOW_1:
        return f"{lower} and {'below 1' if high == BELOW_1 else f'at most {high:,}'}"
    return f"from {low:,} to {high:,}"
