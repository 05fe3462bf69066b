"""Checks of numbers in configurations."""

from math import inf


def check_ranges(section: str, config: object, **ranges: tuple[float, float]) -> None:
    """Make sure that fields of ``config`` lie in their ranges; None is left alone.

    Args:
        section: The configuration's name, for messages.
        config: A configuration dataclass.
        ranges: By field: the smallest and the largest value; ``inf`` for no largest one.

    Raises:
        ValueError: Some do not; all are named.
    """
    problems = []
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            bounds = f"at least {low:,}" if high == inf else f"from {low:,} to {high:,}"
            problems.append(f"{section}.{name} is {value}; it must be {bounds}")
    if problems:
        raise ValueError("; ".join(problems))
