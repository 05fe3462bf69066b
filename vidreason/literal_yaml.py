"""YAML, and plain values such as JSON's, as nodes that know where they were written.

Read literally: a plain scalar keeps its text until the field that it is for says what it should be,
so that a revision ``1e10``, an id ``007`` or an answer ``no`` stay what was written. Nothing in a
file is resolved, looked up or built: there are no tags, no interpolation, and aliases are counted.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

MAX_DEPTH = 32
"""Levels of sections and lists in one another."""
MAX_NODES = 20_000
"""Values of a file, those that aliases repeat counted again."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")  # 12, -3, 1_000
_REAL = re.compile(r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")  # 1e-4, .5, 3.
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|nan|infinity)", re.IGNORECASE)
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"
_MAX_DIGITS = 40  # characters of a number; what is longer is text
_INTERPOLATION = "${"
_MISSING = re.compile(r"\\*\?\?\?")  # OmegaConf's mark, also where it is escaped


@dataclass(frozen=True)
class Scalar:
    """One value."""

    value: str | int | float | bool | None
    where: str
    """File and line, or whatever else it was given by."""
    plain: bool = False
    """True for text without quotes, which may mean a number, a truth value or null."""
    quoted: bool = False
    """True for text in YAML's quotes. Many write 1e-4 so, since some readers want it so: a number
    field takes it; JSON has numbers of its own, and its text is none."""


@dataclass(frozen=True)
class Emptied:
    """The wish that a key hold nothing: null, the empty text, list or mapping, whichever fits."""

    where: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: "list[Node]"
    where: str


@dataclass(frozen=True)
class Section:
    """A mapping by text."""

    items: "dict[str, Node]"
    where: str
    key_where: dict[str, str] = field(default_factory=dict)
    """Location of each key."""

    def where_of(self, key: str) -> str:
        """Return the location at which ``key`` was written."""
        return self.key_where.get(key, self.items[key].where)


Node = Scalar | Emptied | Items | Section


class YamlError(ValueError):
    """A text that is not read; the message names file, line and cause."""


def read_yaml(text: str, source: str, *, lines: bool = True) -> Node:
    """Read the one document in ``text``.

    Args:
        text: YAML.
        source: Its file, for messages.
        lines: Whether messages name the line besides.

    Raises:
        YamlError: It is no YAML, has several documents, tags, the same key twice, keys that are no
            text, aliases that multiply, or more than ``MAX_DEPTH`` levels.
    """
    builder = _Builder(source, lines)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        # Two mistakes are common enough for messages of their own.
        mark = error.problem_mark or error.context_mark
        cause = error.problem or error.context or "no YAML"
        if "\t" in cause or ("cannot start any token" in cause and _tab_at(text, mark)):
            cause = "a tab where YAML wants spaces; indent by spaces"
        elif "cannot start any token" in cause:
            cause += "; put the value into quotes"
        raise YamlError(f"{builder.where(mark)}: not YAML: {cause}") from error
    except yaml.YAMLError as error:  # characters that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        where = f"{source}:{line}" if lines else source
        raise YamlError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    return builder.root or Section({}, source)


def node_of(value: object, where: str, depth: int = 0) -> Node:
    """Turn values, such as those of JSON, into nodes.

    Raises:
        YamlError: They are nested too deeply, or are of other types than JSON's.
    """
    if depth > MAX_DEPTH:
        raise YamlError(f"{where}: more than {MAX_DEPTH} levels in one another")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise YamlError(f"{where}: the key {key!r} is no text")
        items = {key: node_of(item, where, depth + 1) for key, item in value.items()}
        return Section(items, where)
    if isinstance(value, list | tuple):
        return Items([node_of(item, where, depth + 1) for item in value], where)
    if value is None or isinstance(value, str | int | float | bool):
        return Scalar(value, where)
    raise YamlError(f"{where}: a value of type {type(value).__name__}")


def merged(under: Node, over: Node) -> Node:
    """``over`` in front of ``under``: sections are merged, everything else is replaced.

    Numbers as keys are those of a list's entries, from 0.

    Raises:
        YamlError: The list has no such entry.
    """
    if isinstance(under, Items) and isinstance(over, Section) and names_entries(over):
        return _with_entries(under, over)
    if not (isinstance(under, Section) and isinstance(over, Section)):
        return over
    items, key_where = dict(under.items), dict(under.key_where)
    for key, node in over.items.items():
        items[key] = merged(items[key], node) if key in items else node
        key_where[key] = over.where_of(key)  # the last one that wrote it
    return Section(items, over.where, key_where)


def names_entries(node: Section) -> bool:
    """Tell whether the keys are numbers, as of a list's entries."""
    return bool(node.items) and all(key.isdecimal() for key in node.items)


def _with_entries(under: Items, over: Section) -> Items:
    entries = list(under.items)
    for key, node in over.items.items():
        if int(key) >= len(entries):
            raise YamlError(
                f"{over.where_of(key)}: there is no entry {key} in a list of {len(entries)}"
            )
        entries[int(key)] = merged(entries[int(key)], node)
    return Items(entries, over.where)


def plain_value(text: str) -> str | int | float | bool | None:
    """Return the value of unquoted text for a field of any type, by YAML 1.2."""
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if is_whole(text):
        return int(text)
    if is_number(text):
        return float(text)
    return text


def is_null(node: Node) -> bool:
    """Tell whether nothing stands there."""
    if isinstance(node, Emptied):
        return True
    return isinstance(node, Scalar) and (node.value is None or (node.plain and node.value in _NULL))


def is_whole(text: str) -> bool:
    """Tell whether ``text`` is a whole number, without leading zeros, which some take for octal."""
    return bool(_INTEGER.fullmatch(text)) and len(text) <= _MAX_DIGITS and not text.endswith("_")


def is_number(text: str) -> bool:
    """Tell whether ``text`` is a number."""
    if not _REAL.fullmatch(text) or len(text) > _MAX_DIGITS:
        return False
    try:
        float(text)
    except ValueError:  # underscores in odd positions
        return False
    return True


def is_not_finite(text: str) -> bool:
    """Tell whether ``text`` names infinity or no number."""
    return bool(_NOT_FINITE.fullmatch(text))


def strings(node: Node) -> Iterator[tuple[str, str, str]]:
    """Yield all text in ``node``, keys included: key path, text, location."""
    stack: list[tuple[str, Node]] = [("", node)]
    while stack:
        path, current = stack.pop()
        if isinstance(current, Section):
            for key, item in current.items.items():
                below = f"{path}.{key}" if path else key
                yield below, key, current.where_of(key)
                stack.append((below, item))
        elif isinstance(current, Items):
            stack += [(f"{path}[{index}]", item) for index, item in enumerate(current.items)]
        elif isinstance(current, Scalar) and isinstance(current.value, str):
            yield path, current.value, current.where


def is_literal(text: str) -> bool:
    """Tell whether no tool would replace ``text``, as it would ``${...}`` and ``???``."""
    return _INTERPOLATION not in text and not _MISSING.fullmatch(text)


def not_literal(tree: Node) -> list[str]:
    """The text in ``tree`` that is not literal, a line each: where, path, remedy."""
    problems = []
    for path, text, where in strings(tree):
        if _INTERPOLATION in text:
            problems.append(
                f"{where}: {path} holds {shown(text)}; nothing is put in for ${{...}} here: write "
                "the value itself"
            )
        elif not is_literal(text):
            problems.append(f"{where}: {path} is {text}, a value that is still to be given")
    return problems


def has_interpolation(value: object) -> bool:
    """Tell whether there is ``${`` in plain values."""
    return any(_INTERPOLATION in text for _, text, _ in strings(node_of(value, "")))


def shown(value: object, most: int = 60) -> str:
    """``value`` for a message."""
    if isinstance(value, str) and len(value) > most:
        return repr(f"{value[:most]}...")
    text = repr(value)
    return text if len(text) <= most + 5 else f"{text[:most]}..."


def _tab_at(text: str, mark: Any) -> bool:  # noqa: ANN401 - yaml's marks have no type
    if mark is None:
        return False
    line = text.split("\n")[mark.line : mark.line + 1]
    return bool(line) and line[0][mark.column : mark.column + 1] == "\t"


@dataclass
class _Open:
    """A list or mapping that is not closed yet."""

    node: Items | Section
    anchor: str | None
    key: str | None = None
    merges: list[Section] = field(default_factory=list)


class _Builder:
    """Builds nodes from YAML's events, without recursion."""

    def __init__(self, source: str, lines: bool) -> None:
        self.source = source
        self.lines = lines
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._started: dict[str, int] = {}
        self._count = 0

    def where(self, mark: Any) -> str:  # noqa: ANN401 - yaml's marks have no type
        return f"{self.source}:{mark.line + 1}" if self.lines and mark is not None else self.source

    def take(self, event: Any) -> None:  # noqa: ANN401 - nor its events
        where = self.where(event.start_mark)
        if isinstance(event, events.DocumentStartEvent) and self.root is not None:
            raise YamlError(f"{where}: a second document begins; give one file each")
        if isinstance(event, events.ScalarEvent):
            self._scalar(event, where)
        elif isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlError(f"{where}: the alias *{event.anchor} stands for nothing complete")
            node, size = self._anchors[event.anchor]
            self._counted(size, where)
            self._add(node, where)
        elif isinstance(event, events.CollectionStartEvent):
            self._begin(event, where)
        elif isinstance(event, events.CollectionEndEvent):
            self._end(where)

    def _scalar(self, event: Any, where: str) -> None:  # noqa: ANN401
        if event.tag not in (None, "!", _STRING_TAG):
            raise YamlError(f"{where}: the tag {event.tag!r}; a configuration has values only")
        # Without quotes, and without the tag that makes it a text.
        plain = event.style in (None, "") and event.tag is None
        node = Scalar(event.value, where, plain, quoted=not plain)
        self._counted(1, where)
        if event.anchor:
            self._anchors[event.anchor] = (node, 1)
        self._add(node, where)

    def _begin(self, event: Any, where: str) -> None:  # noqa: ANN401
        if event.tag not in (None, "!"):
            raise YamlError(f"{where}: the tag {event.tag!r}; a configuration has values only")
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(f"{where}: more than {MAX_DEPTH} levels in one another")
        if self._open and isinstance(self._open[-1].node, Section) and self._open[-1].key is None:
            raise YamlError(f"{where}: a key that is no text")
        mapping = isinstance(event, events.MappingStartEvent)
        node: Items | Section = Section({}, where) if mapping else Items([], where)
        self._open.append(_Open(node, event.anchor))
        if event.anchor:
            # Inside of itself it stands for nothing yet.
            self._anchors.pop(event.anchor, None)
            self._started[event.anchor] = self._count
        self._counted(1, where)

    def _end(self, where: str) -> None:
        done = self._open.pop()
        # `<<`: keys of the section itself win over merged ones.
        if isinstance(done.node, Section):
            for section in done.merges:
                for key, item in section.items.items():
                    done.node.items.setdefault(key, item)
        if done.anchor:
            self._anchors[done.anchor] = (done.node, self._count - self._started[done.anchor])
        self._add(done.node, where)

    def _add(self, node: Node, where: str) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.node, Items):
            parent.node.items.append(node)
        # A key, then its value.
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise YamlError(f"{where}: a key that is no text")
            parent.key = str(node.value)
            if parent.key in parent.node.items:
                first = parent.node.where_of(parent.key)
                raise YamlError(
                    f"{where}: the key {parent.key!r} stands there twice, as at {first}"
                )
            if parent.key != _MERGE:
                parent.node.key_where[parent.key] = where
        elif parent.key == _MERGE:
            sections = node.items if isinstance(node, Items) else [node]
            if not all(isinstance(section, Section) for section in sections):
                raise YamlError(f"{where}: << takes sections that have an anchor")
            parent.merges += [section for section in sections if isinstance(section, Section)]
            parent.key = None
        else:
            parent.node.items[parent.key] = node
            parent.key = None

    def _counted(self, size: int, where: str) -> None:
        # Aliases count again, so that a bomb of them is refused before it grows.
        self._count += size
        if self._count > MAX_NODES:
            raise YamlError(
                f"{where}: more than {MAX_NODES:,} values, those repeated by aliases counted again"
            )
