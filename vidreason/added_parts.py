"""Parts that installed packages add by entry points, beside those of this project."""

import difflib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


def added_parts(group: str, built_in: Sequence[str]) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, not yet imported.

    Args:
        group: Such as ``vidreason.readers``.
        built_in: Names of this project, which no package can replace.
    """
    added = {point.name: point for point in entry_points(group=group)}
    return {name: point for name, point in added.items() if name not in built_in}


def check_part(field: str, name: str, group: str, known: Sequence[str]) -> None:
    """Make sure that there is a part of a name.

    Args:
        field: Of the configuration.
        name: Its value.
        group: Of the entry points.
        known: Names of this project and of installed packages.

    Raises:
        ValueError: There is none; the message names a similar one.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? Known are" if near else "known are"
        raise ValueError(
            f"{field} is {name!r}, which is neither of this project nor an entry point {group} of "
            f"an installed package; {hint} {', '.join(known)}"
        )


def load_part(point: EntryPoint, expected: type[T], name: str) -> T:
    """Import what an entry point names.

    Args:
        point: The entry point.
        expected: Class of what it has to be.
        name: Of that class, for messages.

    Raises:
        ValueError: It cannot be imported, or is something else.
    """
    where = f"the entry point {point.name} = {point.value!r} of {point.group}"
    try:
        part = point.load()
    except Exception as error:  # whatever a module of others raises as it is imported
        raise ValueError(f"{where} cannot be imported: {error}") from error
    if not isinstance(part, expected):
        raise ValueError(f"{where} is a {type(part).__name__}; it has to be a {name}")
    return part
