"""Messages about values of a configuration that do not fit."""

import dataclasses
import difflib
import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from omegaconf.errors import OmegaConfBaseException

from vidreason.literal_yaml import Node, Scalar, Section, is_null, shown

_MAX_MESSAGE = 300
"""Characters of what OmegaConf says, in which values stand whole."""
_MAX_KEYS = 3


def wrong_shape(kinds: tuple[Any, ...], node: Node, path: str) -> str:
    """Say that a section, a list or a value was expected where another of them was written.

    Args:
        kinds: Types of the field.
        node: What was written.
        path: Dotted path of the field.

    Returns:
        The message without the path; empty if the shape is right.
    """
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if is_null(node) or Any in kinds:
        return ""
    given = f"found {shown(node.value)}" if isinstance(node, Scalar) else "found a list"
    first = next(iter(node.items), "") if isinstance(node, Section) else ""
    if isinstance(node, Section):
        given = f"found the key {first!r}"
    # The first of the types that wants another shape than what is written.
    for kind in kinds:
        if dataclasses.is_dataclass(kind):
            keys = [field.name for field in dataclasses.fields(kind) if field.init]
            more = ", ..." if len(keys) > _MAX_KEYS else ""
            return f"expected a section, with the keys {', '.join(keys[:_MAX_KEYS])}{more}; {given}"
        if get_origin(kind) is dict:
            return f"expected names, each with its value, as in {{NAME: ...}}; {given}"
        if get_origin(kind) is list and isinstance(node, Section):
            return f"expected a list; its entries have numbers, as in {path}.0.{first}; {given}"
        if get_origin(kind) is list and isinstance(node, Scalar):
            return f"expected a list; {given}; write [{shown(node.value)}]"
    return f"it is one value, which has no keys; {given}" if first else ""


def choices(kinds: tuple[Any, ...]) -> list[Any]:
    """Return the values that a field of ``kinds`` may be one of."""
    return [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def remedy(kinds: tuple[Any, ...], node: Node) -> str:
    """Return what helps against a value that does not fit; empty if nothing comes to mind."""
    if is_null(node):
        return "; nothing is given"
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return ""
    nearest = difflib.get_close_matches(node.value, map(str, choices(kinds)), 1)
    if nearest and nearest[0] != node.value:
        return f". Did you mean: {nearest[0]!r}?"
    return odd_character(node.value)


def odd_character(text: str) -> str:
    """Return a remark on a character that looks like another one; empty if there is none."""
    odd = next((character for character in text if not character.isascii()), "")
    return f" (it has the character U+{ord(odd):04X} in it)" if odd else ""


def said(error: Exception, node: Section, path: str) -> str:
    """Return what a dataclass says of its values, with where the field it names was written."""
    message = one_line(error)
    where = _where(node, message)
    if path and not message.startswith(path):
        message = f"{path}: {message}"
    return f"{where}: {message}" if where else message


def _where(node: Section, message: str) -> str:
    """Return where that was written which a message names first, as deep as the message goes."""
    named = [key for key in node.items if re.search(rf"\b{re.escape(key)}\b", message)]
    if not named:
        return node.where
    key = min(named, key=message.find)
    where, inner = node.where_of(key), node.items[key]
    # Below it only what the message writes as a path, or in quotes: plain words may be anything.
    while isinstance(inner, Section):
        named = [name for name in inner.items if f"{key}.{name}" in message]
        named = named or [name for name in inner.items if repr(name) in message]
        if not named:
            break
        key = named[0]
        where, inner = inner.where_of(key), inner.items[key]
    return where


def one_line(error: Exception) -> str:
    """Return the message of an error on one line; OmegaConf's without what it adds."""
    message = str(error)
    if isinstance(error, OmegaConfBaseException):
        # OmegaConf adds lines on its own objects.
        message = message.split("\n    full_key:")[0]
        if len(message) > _MAX_MESSAGE:
            half = _MAX_MESSAGE // 2
            message = f"{message[:half]}...{message[-half:]}"
    return " ".join(message.split())
