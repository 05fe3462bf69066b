"""Nodes of a configuration as values of the types that dataclasses declare.

All that does not fit is collected, each with where it was written, so that a user mends it at once.
"""

import copy
import dataclasses
import difflib
import math
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vidreason.literal_yaml import (
    Items,
    Node,
    Scalar,
    Section,
    is_not_finite,
    is_null,
    is_number,
    is_whole,
    plain_value,
)

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAX_INTEGER = 2**63
_WRONG = object()
"""Stands for a value that is wrong; a problem says why."""


class Reading:
    """Reads one configuration.

    Attributes:
        problems: What was wrong, a line each.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def section(
        self,
        schema: type[Any],
        node: Node,
        default: object = None,
        path: str = "",
    ) -> Any:  # noqa: ANN401 - an instance of schema
        """An instance of ``schema``; None if something is wrong with it.

        Args:
            schema: A dataclass.
            node: What is given of its fields.
            default: The instance whose values the other fields have; None for those of the class.
            path: Dotted, from the top.
        """
        if not isinstance(node, Section):
            self._refuse(node, path, "a section of keys")
            return None
        before = len(self.problems)
        types = _field_types(schema)  # type: ignore[arg-type]  # classes are hashable
        values: dict[str, Any] = {}
        for key, item in node.items.items():
            if key in types:
                inner = f"{path}.{key}" if path else key
                values[key] = self._value(types[key], item, _default(schema, key, default), inner)
            else:
                self._unknown(key, node, list(types), path)
        for field in dataclasses.fields(schema):
            if field.name in values or not field.init:
                continue
            if default is not None:
                values[field.name] = copy.deepcopy(getattr(default, field.name))
            elif field.default is field.default_factory is dataclasses.MISSING:
                where = f"{node.where}: " if node.where else ""
                inner = f"{path}.{field.name}" if path else field.name
                self.problems.append(f"{where}{inner} is missing; it has no default")
        if len(self.problems) > before:
            return None
        try:
            return schema(**values)
        except ValueError as error:
            self.problems.append(_said(error, node, path))
            return None

    def _value(self, kind: Any, node: Node, default: object, path: str) -> Any:  # noqa: ANN401
        """``node`` as a value of the type ``kind``."""
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        if NoneType in kinds and is_null(node):
            return None
        kinds = tuple(each for each in kinds if each is not NoneType)
        for each in kinds:
            if dataclasses.is_dataclass(each) and isinstance(each, type):
                known = default if isinstance(default, each) else None
                return self.section(each, node, known, path)
            if get_origin(each) is list:
                return self._list(get_args(each)[0], node, path)
            if get_origin(each) is dict:
                return self._dict(get_args(each)[1], node, default, path)
            if each is Any:
                return _anything(node)
        if isinstance(node, Scalar):
            if not _is_finite(node) and str not in kinds:
                self._refuse(node, path, "a finite number")
                return _WRONG
            if node.quoted and str in kinds:
                return node.value
            for each in _in_order(kinds):
                value = _scalar(each, node)
                if value is not _WRONG:
                    return value
        self._refuse(node, path, " or ".join(_named(each) for each in kinds), kinds)
        return _WRONG

    def _list(self, kind: Any, node: Node, path: str) -> list[Any] | object:  # noqa: ANN401
        if not isinstance(node, Items):
            text = node.value if isinstance(node, Scalar) else None
            remedy = f", as in [{text}]" if isinstance(text, str) and text else ""
            self._refuse(node, path, f"a list{remedy}")
            return _WRONG
        return [
            self._value(kind, item, None, f"{path}[{index}]")
            for index, item in enumerate(node.items)
        ]

    def _dict(self, kind: Any, node: Node, default: object, path: str) -> dict[str, Any] | object:  # noqa: ANN401
        if not isinstance(node, Section):
            self._refuse(node, path, "a section of keys")
            return _WRONG
        values = copy.deepcopy(default) if isinstance(default, dict) else {}
        for key, item in node.items.items():
            values[key] = self._value(kind, item, values.get(key), f"{path}.{key}")
        return values

    def _unknown(self, key: str, node: Section, known: list[str], path: str) -> None:
        nearest = difflib.get_close_matches(key, known, 1)
        inner = f"{path}.{key}" if path else key
        remedy = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
        odd = next((character for character in key if not character.isascii()), "")
        if odd:
            remedy += f" (it has the character U+{ord(odd):04X} in it)"
        where = node.where_of(key)
        self.problems.append(f"{where}: {inner}: there is no such key; {remedy}")

    def _refuse(self, node: Node, path: str, expected: str, kinds: tuple[Any, ...] = ()) -> None:
        problem = f"{node.where}: {path or 'the configuration'}: expected {expected}, found "
        problem += _found(node)
        text = node.value if isinstance(node, Scalar) else None
        if isinstance(text, str):
            odd = next((character for character in text if not character.isascii()), "")
            numeric = any(each in (int, float, bool) for each in kinds)
            if odd and numeric:
                problem += f", which has the character U+{ord(odd):04X} in it"
            choices = [choice for each in kinds for choice in _choices(each)]
            nearest = difflib.get_close_matches(text, map(str, choices), 1)
            if nearest:
                problem += f"; did you mean {nearest[0]}?"
        self.problems.append(problem)


@cache
def _field_types(schema: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema) if field.init}


def _default(schema: type[Any], name: str, default: object) -> object:
    """The value of a field that is not given: what a section that is given is merged onto."""
    if default is not None:
        return getattr(default, name)
    field = schema.__dataclass_fields__[name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _said(error: ValueError, node: Section, path: str) -> str:
    """What a dataclass says of its values, with where the field that it names was written."""
    message = " ".join(str(error).split())
    named = [key for key in node.items if re.search(rf"\b{re.escape(key)}\b", message)]
    named.sort(key=message.find)
    where = node.where_of(named[0]) if named else node.where
    if path and not message.startswith(path):
        message = f"{path}: {message}"
    return f"{where}: {message}" if where else message


def _in_order(kinds: tuple[Any, ...]) -> list[Any]:
    """Text comes last: whatever has a meaning of its own is not text."""
    return sorted(kinds, key=lambda kind: kind is str)


def _scalar(kind: Any, node: Scalar) -> Any:  # noqa: ANN401 - a value of kind
    value = node.value
    if get_origin(kind) is Literal:
        options = {node.value, plain_value(str(value)) if node.plain else value}
        return next((c for c in get_args(kind) if _same(c, options)), _WRONG)
    text = value if isinstance(value, str) else None
    if kind is str:
        return value if isinstance(value, str) and not is_null(node) else _WRONG
    if kind is bool:
        if isinstance(value, bool):
            return value
        return _TRUTH.get(text.lower(), _WRONG) if text and node.plain else _WRONG
    if isinstance(value, bool):
        return _WRONG
    written = text if node.plain or node.quoted else None
    if kind is int:
        number = int(written) if written is not None and is_whole(written) else value
        fits = isinstance(number, int) and abs(number) < _MAX_INTEGER
        return number if fits else _WRONG
    if kind is float:
        if written is not None and is_number(written):
            return _finite(float(written))
        return _finite(value) if isinstance(value, int | float) else _WRONG
    raise TypeError(f"a configuration cannot have fields of type {kind!r}")


def _finite(value: float) -> Any:  # noqa: ANN401 - a float, or _WRONG
    try:
        number = float(value)
    except OverflowError:
        return _WRONG
    return number if math.isfinite(number) else _WRONG


def _same(choice: object, options: set[Any]) -> bool:
    return any(type(choice) is type(option) and choice == option for option in options)


def _is_finite(node: Scalar) -> bool:
    if isinstance(node.value, float):
        return math.isfinite(node.value)
    return not (isinstance(node.value, str) and is_not_finite(node.value))


def _anything(node: Node) -> Any:  # noqa: ANN401 - plain values
    if isinstance(node, Section):
        return {key: _anything(item) for key, item in node.items.items()}
    if isinstance(node, Items):
        return [_anything(item) for item in node.items]
    return plain_value(str(node.value)) if node.plain else node.value


def _choices(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return get_args(kind) if get_origin(kind) is Literal else ()


def _named(kind: Any) -> str:  # noqa: ANN401 - a type
    if choices := _choices(kind):
        return f"one of {', '.join(map(str, choices))}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names[kind]


def _found(node: Node) -> str:
    if isinstance(node, Section):
        return f"a section with {', '.join(list(node.items)[:4]) or 'nothing'}"
    if isinstance(node, Items):
        return f"a list of {len(node.items)}"
    if is_null(node):
        return "nothing"
    text = repr(node.value)
    if isinstance(node.value, str) and not node.plain:
        text = f"the text {text}"
    return text if len(text) <= 80 else f"{text[:77]}..."
