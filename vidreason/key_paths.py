"""Dotted keys of a configuration dataclass, and those that a wrong one may have meant."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

_CUTOFF = 0.75
"""Similarity from which a name may have been meant by another."""
_MAX_SIMILAR = 3
ANY_NAME = "NAME"
"""Stands in a key for the name that a user gives an entry of a dictionary."""


def key_paths(schema: type, path: str = "") -> Iterator[str]:
    """Yield all keys, each section before what it holds.

    Entries of a list are without their number, and ``NAME`` stands for one of a dictionary.
    """
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        if field.init:
            name = f"{path}.{field.name}" if path else field.name
            yield name
            hint = hints[field.name]
            entry = f"{name}.{ANY_NAME}" if typing.get_origin(hint) is dict else name
            for section in sections_in(hint):
                yield from key_paths(section, entry)


def sections_in(hint: Any) -> list[type]:  # noqa: ANN401 - a type of any kind
    """Return the dataclasses that a field's value, or an entry of it, may be."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, list, dict):
        return [one for part in typing.get_args(hint) for one in sections_in(part)]
    return [typing.cast(type, hint)] if dataclasses.is_dataclass(hint) else []


def similar_keys(schema: type, wanted: str) -> list[str]:
    """Return at most three keys with the last name of ``wanted``, or else with similar names.

    ``lora_rank``, as others call it, is taken for ``reasoner.lora.rank``.
    """
    names: dict[str, list[str]] = {}
    for path in key_paths(schema):
        parts = path.split(".")
        for name in dict.fromkeys((parts[-1], "_".join(parts[-2:]))):
            names.setdefault(name, []).append(path)
    last = wanted.rpartition(".")[2]
    near = [last] if last in names else difflib.get_close_matches(last, names, 3, _CUTOFF)
    matches = list(dict.fromkeys(path for name in near for path in names[name]))
    # Those of the section that was named come first.
    section = wanted.rpartition(".")[0]
    matches.sort(key=lambda path: -difflib.SequenceMatcher(None, section, path).ratio())
    return matches[:_MAX_SIMILAR]
