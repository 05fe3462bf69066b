"""Nodes of a configuration, merged by OmegaConf onto the defaults of a dataclass.

OmegaConf says what fits a field. Each value is merged on its own, so that all that does not fit is
collected, each with where it was written, and a user mends it at once. OmegaConf gets no text that
it would replace: such text is refused before.
"""

import copy
import dataclasses
import difflib
import math
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from vidreason.key_paths import similar_keys, similar_to_path
from vidreason.literal_yaml import (
    Emptied,
    Items,
    Node,
    Scalar,
    Section,
    YamlError,
    has_interpolation,
    is_literal,
    is_not_finite,
    is_null,
    is_number,
    is_whole,
    merged,
    names_entries,
    node_of,
    not_literal,
    plain_value,
    shown,
    strings,
)
from vidreason.merge_messages import choices, odd_character, one_line, remedy, said, wrong_shape
from vidreason.other_trainers import own_key

T = TypeVar("T")

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAX_INTEGER = 2**63
_NEAR = 0.6
"""Similarity from which one name of a section may have been meant by another."""
_NOTHING: tuple[tuple[type, Any], ...] = ((NoneType, None), (str, ""), (list, []), (dict, {}))
"""By type, what a key holds that is emptied; the first that fits."""
RENAMED_KEYS = {
    "trainer.stop_after_stalls": "trainer.early_stopping_patience",
    "trainer.stop_min_delta": "trainer.early_stopping_min_delta",
    "freeze_schedule.stalls_for": "freeze_schedule.patience",
    "evaluation.control": "controls",
    "evaluate_during_training": "evaluation.every_n_steps",
    "data.drop_clips": "data.drop",
    "data.drop_objects": "data.drop",
    "data.seed": "seed",
}
"""New key paths by the old ones, without indices of lists."""
_STREAMED = "root=hf://datasets/NAME reads a data set of the Hub without storing it"
REMOVED_KEYS = {
    **{f"data.{role}.streaming": _STREAMED for role in ("train", "validation", "benchmark")},
    "trainer.log_devices": "Lightning's DeviceStatsMonitor is no longer an option",
}
"""Reasons by key path."""


def typed(schema: type[T], tree: Node) -> tuple[T | None, list[str]]:
    """``tree`` merged onto the defaults of ``schema``.

    Returns:
        The instance, whose ``__post_init__`` checks have run, and no problems; or None and all that
        is wrong, a line each.

    Raises:
        TypeError: A default holds ``${``.
    """
    assert isinstance(tree, Section)
    config = copy.deepcopy(_defaults(schema))  # type: ignore[arg-type]  # classes are hashable
    merging = _Merging(schema)
    merging.problems += not_literal(tree)
    # OmegaConf converts nothing: _scalar has given each value its type.
    with flag_override(config, "convert", False):
        merging.section(config, schema, tree, "")
    if not merging.problems:
        try:
            value = OmegaConf.to_object(config)
        except (OmegaConfBaseException, ValueError):
            # Which check failed, section by section.
            merging.check()
            if not merging.problems:
                raise
        else:
            assert isinstance(value, schema)
            return value, []
    else:
        merging.check()
    return None, merging.problems


class _Given(NamedTuple):
    """A section of a dataclass's fields that is given."""

    config: DictConfig
    node: Section
    path: str
    is_right: bool
    """True if all that is given fits."""
    first: int
    """Index of the first of the sections in it, which all come before it."""


class _Merging:
    """Merges one configuration.

    Attributes:
        problems: What was wrong, a line each.
    """

    def __init__(self, root: type[Any]) -> None:
        self.problems: list[str] = []
        self._root = root
        self._given: list[_Given] = []
        self._wrong = 0

    def section(self, config: DictConfig, schema: type[Any], node: Section, path: str) -> None:
        """Merge what ``node`` gives of the fields of ``schema``, at the dotted ``path``."""
        first, before = len(self._given), self._wrong
        types = _field_types(schema)  # type: ignore[arg-type]  # classes are hashable
        for key, item in node.items.items():
            inner = f"{path}.{key}" if path else key
            if key in types:
                self._put(config, key, types[key], item, inner)
            elif is_literal(key):
                self._unknown(key, node, inner, list(types))
            else:
                self._wrong += 1
        self._given.append(_Given(config, node, path, self._wrong == before, first))

    def check(self) -> None:
        """Run the checks of the dataclasses of all sections in which everything fits."""
        failed: list[bool] = []
        # The sections in it were checked before; what fails there would only fail here once more.
        for given in self._given:
            fails = not given.is_right or any(failed[given.first :])
            for key in map(str, given.config):
                if key not in given.node.items and OmegaConf.is_missing(given.config, key):
                    inner = f"{given.path}.{key}" if given.path else key
                    where = f"{given.node.where}: " if given.node.where else ""
                    self.problems.append(f"{where}{inner} is missing; it has no default")
                    fails = True
            if not fails:
                try:
                    OmegaConf.to_object(given.config)
                except (OmegaConfBaseException, ValueError) as error:
                    self.problems.append(said(error, given.node, given.path))
                    fails = True
            failed.append(fails)

    def _put(
        self,
        parent: DictConfig | ListConfig,
        key: str,
        hint: Any,  # noqa: ANN401
        node: Node,
        path: str,
    ) -> None:
        """Merge ``node`` into ``parent[key]``; a list gets it as its next item."""
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        try:
            self._merge(parent, key, kinds, node, path)
        except YamlError as error:
            self._wrong += 1
            self.problems.append(f"{error}: {path}")
        except OmegaConfBaseException as error:
            self._wrong += 1
            message = wrong_shape(kinds, node, path) or one_line(error) + remedy(kinds, node)
            self.problems.append(f"{node.where}: {path}: {message}")

    def _merge(
        self,
        parent: DictConfig | ListConfig,
        key: str,
        kinds: tuple[Any, ...],
        node: Node,
        path: str,
    ) -> None:
        # Sections, dictionaries and lists are merged item by item, so that all problems are found.
        for kind in kinds:
            if isinstance(node, Section) and dataclasses.is_dataclass(kind):
                assert isinstance(kind, type)
                child = _present(parent, key)
                if child is None:  # OmegaConf takes a copy
                    child = _put_value(parent, key, _defaults(kind))
                self.section(child, kind, node, path)
                return
            if isinstance(node, Section) and get_origin(kind) is dict:
                child = _present(parent, key)
                child = _put_value(parent, key, {}) if child is None else child
                for name, item in node.items.items():
                    if is_literal(name):
                        self._put(child, name, get_args(kind)[1], item, f"{path}.{name}")
                    else:
                        self._wrong += 1
                return
            if isinstance(node, Section) and get_origin(kind) is list and names_entries(node):
                # Entries of the default, which no file has replaced.
                node = merged(_default_items(_present(parent, key), node.where), node)
            if isinstance(node, Items) and get_origin(kind) is list:
                # What is written replaces the default's entries, and is not added to them.
                child = _put_value(parent, key, [])
                for index, item in enumerate(node.items):
                    self._put(child, key, get_args(kind)[0], item, f"{path}[{index}]")
                return
        if isinstance(node, Emptied):
            outer = {get_origin(kind) or kind for kind in kinds}  # list of list[int]
            fitting = [nothing for kind, nothing in _NOTHING if kind in outer]
            _put_value(parent, key, copy.copy(fitting[0]) if fitting else None)
            return
        # What is left is one value; what is not literal has been reported already.
        if not all(is_literal(text) for _, text, _ in strings(node)):
            self._wrong += 1
        elif Any in kinds:
            with flag_override(parent, "convert", True):
                _put_value(parent, key, _anything(node))
        elif isinstance(node, Scalar):
            value = _scalar(kinds, node)
            if limit := _beyond(value, node, kinds):
                self._wrong += 1
                self.problems.append(
                    f"{node.where}: {path}: expected {limit}, found {shown(node.value)}"
                )
            else:
                _put_value(parent, key, value)
        else:
            _put_value(parent, key, _anything(node))

    def _unknown(self, key: str, node: Section, path: str, known: list[str]) -> None:
        # Entries of lists are named without their numbers there.
        plain = re.sub(r"\[\d+\]", "", path)
        if plain in RENAMED_KEYS:
            message = f"the key is now {RENAMED_KEYS[plain]}"
        elif plain in REMOVED_KEYS:
            message = f"the key is gone: {REMOVED_KEYS[plain]}"
        elif meant := own_key(self._root, key):
            message = f"there is no such key. Did you mean {meant.key}? {meant.remark}".rstrip()
        elif similar := self._similar(key, path, known, _below(node.items[key])):
            message = f"there is no such key. Did you mean {' or '.join(similar)}?"
        else:
            message = f"there is no such key; known are {', '.join(known)}"
        self._wrong += 1
        self.problems.append(f"{node.where_of(key)}: {path}: {message}{odd_character(key)}")

    def _similar(self, key: str, path: str, known: list[str], below: list[str]) -> list[str]:
        """Return keys that an unknown one may have meant, those of its own section first."""
        if below and (meant := similar_to_path(self._root, path, below)):
            return meant
        near = difflib.get_close_matches(key, known, 2, _NEAR)
        section = path.removesuffix(key)
        return [section + name for name in near] or similar_keys(self._root, path)


def _below(node: Node) -> list[str]:
    """Return the names below an unknown key, as long as there is but one: those of an override."""
    names: list[str] = []
    while isinstance(node, Section) and len(node.items) == 1:
        ((name, node),) = node.items.items()
        names.append(name)
    return names


@cache
def _field_types(schema: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema) if field.init}


@cache
def _defaults(schema: type[Any]) -> DictConfig:
    """The defaults of ``schema``, only to be copied: making them takes four times as long."""
    config = OmegaConf.structured(schema)
    assert isinstance(config, DictConfig)
    if has_interpolation(OmegaConf.to_container(config, resolve=False)):
        raise TypeError(f"a default of {schema.__name__} holds ${{, which is not literal")
    return config


def _default_items(default: Any, where: str) -> Node:  # noqa: ANN401 - OmegaConf's
    values = OmegaConf.to_container(default) if isinstance(default, ListConfig) else []
    return node_of(values, where)


def _present(parent: DictConfig | ListConfig, key: str) -> Any:  # noqa: ANN401 - OmegaConf's
    return parent[key] if isinstance(parent, DictConfig) and key in parent else None


def _put_value(parent: DictConfig | ListConfig, key: str, value: Any) -> Any:  # noqa: ANN401
    """Set ``parent[key]``, or append to a list; returns OmegaConf's own of it."""
    if isinstance(parent, ListConfig):
        parent.append(value)
        return parent[-1]
    parent[key] = value
    return parent[key]


def _scalar(kinds: tuple[Any, ...], node: Scalar) -> Any:  # noqa: ANN401 - a plain value
    """The value that is written, for a field of ``kinds``; OmegaConf says whether it fits.

    Text comes last: whatever has a meaning of its own is not text.
    """
    # Values of JSON have a type; a whole number fits a float field.
    value = node.value
    if not isinstance(value, str) or not (node.plain or node.quoted):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _float(value) if whole and float in kinds and int not in kinds else value
    if NoneType in kinds and is_null(node):
        return None
    # Text of YAML: the field's choices first, then null, truth values, numbers, and text.
    meant = plain_value(value) if node.plain else value
    for choice in choices(kinds):
        # Python's 1 equals True, and is not meant by it.
        if any(type(choice) is type(each) and choice == each for each in (value, meant)):
            return choice
    if is_null(node):
        return None
    if node.quoted and str in kinds:
        return value
    if bool in kinds and node.plain and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    if int in kinds and is_whole(value):
        return int(value)
    if float in kinds and is_number(value):
        return float(value)
    return meant if str not in kinds and str(meant) == value else value


def _float(value: Any) -> float:  # noqa: ANN401 - a whole number
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _beyond(value: object, node: Scalar, kinds: tuple[Any, ...]) -> str:
    """The limit that ``value`` is beyond, or nothing."""
    named = isinstance(value, str) and node.plain and is_not_finite(value) and str not in kinds
    if named or (isinstance(value, float) and not math.isfinite(value)):
        return "a finite number"
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        return "a whole number of at most 63 bits"
    return ""


def _anything(node: Node) -> Any:  # noqa: ANN401 - plain values
    if isinstance(node, Section):
        return {key: _anything(item) for key, item in node.items.items()}
    if isinstance(node, Items):
        return [_anything(item) for item in node.items]
    if isinstance(node, Emptied):
        return None
    return plain_value(str(node.value)) if node.plain else node.value
