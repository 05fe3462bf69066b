"""Dotted keys of a configuration dataclass, and those that a wrong one may have meant."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
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
        # By the last name, and by the last two, joined as others write them.
        for name in dict.fromkeys((parts[-1], "_".join(parts[-2:]))):
            names.setdefault(name, []).append(path)
    last = wanted.rpartition(".")[2]
    near = [last] if last in names else difflib.get_close_matches(last, names, 3, _CUTOFF)
    matches = list(dict.fromkeys(path for name in near for path in names[name]))
    # Those of the section that was named come first.
    section = wanted.rpartition(".")[0]
    matches.sort(key=lambda path: -_ratio(section, path))
    return matches[:_MAX_SIMILAR]


def similar_to_path(schema: type, path: str, below: Sequence[str]) -> list[str]:
    """Return at most three keys that an unknown one may have meant.

    Args:
        schema: The configuration dataclass.
        path: The unknown key.
        below: What was written below it: with ``callbacks`` unknown, ``early_stopping`` and
            ``patience`` of ``callbacks.early_stopping.patience=3``, which tell more than it does.
            There is at least one name.
    """
    names = [*path.split("."), *below]
    section, last = ".".join(names[:-1]), names[-1].lower()
    joined = similar_keys(schema, f"{names[-2]}_{last}".lower())
    # The same last name says little by itself: many sections have a name or a kind.
    by_name = similar_keys(schema, f"{section}.{last}")
    if len(by_name) > 1:
        by_name = [key for key in by_name if _ratio(key.rpartition(".")[0], section) >= _CUTOFF]
    return list(dict.fromkeys([*joined, *by_name]))[:_MAX_SIMILAR]


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()
