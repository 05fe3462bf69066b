"""Parts from outside of this project: entry points of installed packages, or ``module:object``.

A configuration names a part. Names of this project come first, and no package replaces one. Another
name is that of an entry point, which a package declares in a group such as
``vidreason.video_encoders``, or it is ``package.module:object`` itself. Nothing is imported unless
its name is used; importing a module runs it.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OBJECT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def added_parts(group: str, built_in: Collection[str] = ()) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, not yet imported.

    Args:
        group: Such as ``vidreason.readers``.
        built_in: Names of this project, which no package can replace.
    """
    added = {point.name: point for point in entry_points(group=group)}
    return {name: point for name, point in added.items() if name not in built_in}


def check_part(field: str, name: str, group: str, built_in: Collection[str]) -> None:
    """Make sure that there is a part of a name; imports nothing.

    Args:
        field: Of the configuration.
        name: Its value.
        group: Of the entry points.
        built_in: Names of this project.

    Raises:
        ValueError: There is none; the message names a similar one.
    """
    if name in built_in or _OBJECT.fullmatch(name):
        return
    known = [*built_in, *added_parts(group, built_in)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? Known are" if near else "known are"
        raise ValueError(
            f"{field} is {name!r}, which is neither of this project nor an entry point {group} of "
            f"an installed package; {hint} {', '.join(known) or 'none'}. Install the package that "
            "declares it, or give package.module:object"
        )


def load_part(group: str, name: str, expected: type[T], kind: str) -> T:
    """Import a part.

    Args:
        group: Of the entry points.
        name: One that :func:`check_part` lets pass, and not of this project.
        expected: Class of what it has to be.
        kind: Name of that class, for messages.

    Raises:
        ValueError: It cannot be imported, or is something else.
    """
    point, where = entry_point(group, name), part_name(group, name)
    try:
        part = point.load()
    except Exception as error:  # whatever a module of others raises as it is imported
        raise ValueError(f"{where} cannot be imported: {error}") from error
    if not isinstance(part, expected):
        raise ValueError(f"{where} is a {type(part).__name__}; it has to be a {kind}")
    return part


def load_class(group: str, name: str, parent: type[T], kind: str) -> type[T]:
    """Import a part that is a class, as :func:`load_part`.

    Args:
        group: Of the entry points.
        name: Of the part.
        parent: Class that it has to derive from.
        kind: Name of that class, for messages.

    Raises:
        ValueError: It cannot be imported, or is something else.
    """
    part = load_part(group, name, type, f"class derived from {kind}")
    if not issubclass(part, parent):
        raise ValueError(
            f"{part_name(group, name)} is the class {part.__name__}; it is no {kind}: derive it "
            "from that class"
        )
    return part


def entry_point(group: str, name: str) -> EntryPoint:
    """Return the entry point of a name that is known, also of ``module:object``.

    Raises:
        ValueError: There is none, though it was there when the configuration was read.
    """
    if ":" in name:
        return EntryPoint(name, name, group)
    points = added_parts(group)
    if name not in points:
        raise ValueError(f"no installed package declares an entry point {name!r} of {group}")
    return points[name]


def part_name(group: str, name: str) -> str:
    """Return how messages name a part."""
    if ":" in name:
        return f"{name!r} (for {group})"
    return f"the entry point {name} = {entry_point(group, name).value!r} of {group}"


def check_methods(
    group: str,
    name: str,
    part: type,
    protocol: type,
    methods: Collection[str],
    required: Collection[str] = (),
) -> None:
    """Make sure that the methods of a class take what they are called with.

    Args:
        group: Of the entry points.
        name: Of the part.
        part: The class.
        protocol: Class whose methods of these names say with what they are called.
        methods: Their names.
        required: Names of further ones that the class cannot inherit from ``protocol``.

    Raises:
        ValueError: A method is missing or has another signature.
    """
    where = part_name(group, name)
    for method in (*methods, *required):
        given, expected = getattr(part, method, None), getattr(protocol, method)
        kind = f"{protocol.__module__}.{protocol.__qualname__}.{method}"
        is_inherited = _function(given) is _function(expected)
        if not callable(given) or (is_inherited and method in required):
            raise ValueError(
                f"{where} has no method {method}: write it as {kind}{inspect.signature(expected)}"
            )
        check_call(f"{where}: its {method}", given, expected, kind)


def _function(method: object) -> object:
    """Return the function below a bound method."""
    return getattr(method, "__func__", method)


def check_call(where: str, given: object, expected: Callable[..., object], kind: str) -> None:
    """Make sure that a function can be called as another one is.

    Args:
        where: Begins the message.
        given: The function.
        expected: The function that it stands for.
        kind: Name of that one.

    Raises:
        ValueError: It takes other arguments, or is no function.
    """
    wanted = inspect.signature(expected)
    if not callable(given):
        raise ValueError(
            f"{where} is a {type(given).__name__}; give it a function that is called as "
            f"{kind}{wanted}"
        )
    try:
        signature = inspect.signature(given)
    except ValueError:  # of a function in C, which does not tell
        return
    parameters = wanted.parameters.values()
    by_position = [one for one in parameters if one.kind in _POSITIONAL]
    by_name = [one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    for is_short in (False, True):  # with all arguments, and without those that have a default
        chosen = [
            [one.name for one in some if not is_short or one.default is one.empty]
            for some in (by_position, by_name)
        ]
        try:
            # Values do not matter, only names.
            signature.bind(*chosen[0], **dict.fromkeys(chosen[1]))
        except TypeError as error:
            raise ValueError(
                f"{where} takes {signature}, and is called as {kind}{wanted} ({error}): give it "
                "these arguments"
            ) from error


def declared_by(group: str, name: str) -> str:
    """Return the package that declares an entry point, with its version; nothing if none does."""
    distribution = None if ":" in name else entry_point(group, name).dist
    return f"{distribution.name} {distribution.version}" if distribution else ""


@contextmanager
def part_errors(group: str, name: str) -> Iterator[None]:
    """Say of what a part of others raises which part it was.

    Raises:
        ValueError: Whatever was raised inside, but for too little memory.
    """
    try:
        yield
    # Too little memory is no fault of the part.
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{part_name(group, name)}: {type(error).__name__}: {error}") from error


def check_imported(source: str, field: str, name: str) -> None:
    """Refuse ``module:object`` in a file of others, such as a reasoner folder.

    A module that was imported before, by who runs the program, may be named.

    Args:
        source: The file.
        field: In it.
        name: Its value.

    Raises:
        ValueError: The module has not been imported.
    """
    module = name.partition(":")[0]
    if ":" in name and module not in sys.modules:
        raise ValueError(
            f"{source}: {field} is {name!r}, and no such file may say which modules are imported: "
            f"import {module} before, if you trust it, or declare it as an entry point of an "
            "installed package and name that"
        )
