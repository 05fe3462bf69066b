"""Checks of numbers in configurations."""


def check_ranges(section: str, config: object, **ranges: tuple[float, float]) -> None:
    """Make sure that fields of ``config`` lie in their ranges; None is left alone.

    Args:
        section: The configuration's name, for messages.
        config: A configuration dataclass.
        ranges: By field: the smallest and the largest value.

    Raises:
        ValueError: Some do not; all are named.
    """
    problems = []
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            problems.append(f"{section}.{name} is {value}; it must be from {low:,} to {high:,}")
    if problems:
        raise ValueError("; ".join(problems))
