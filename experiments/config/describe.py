"""Every key of an experiment's configuration: type, default, meaning, and which programs read it.

All of it comes from the dataclasses, whose fields have their meaning in the text below them.
"""

import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.experiment_config import READERS_OF_SECTIONS, ExperimentConfig
from vidreason.field_texts import field_texts
from vidreason.key_paths import ANY_NAME, sections_in, similar_keys
from vidreason.other_trainers import own_key

_CHECKOUT = Path(__file__).resolve().parents[2]
REFERENCE_TITLE = "Configuration reference"
_ANY_PROGRAM = "every program that needs it"
PROGRAM_SCHEMAS = {
    "ablate": "experiments.ablate.config:StudyConfig",
    "data": "experiments.data.config:DataCommandConfig",
    "evaluate table": "experiments.evaluate.table_config:SystemTableConfig",
    "judge": "experiments.judge.config:JudgeProgramConfig",
    "make_instructions": "experiments.make_instructions.config:MakeInstructionsConfig",
    "review_instructions": "experiments.review_instructions.config:ReviewInstructionsConfig",
    "store": "experiments.store.config:StoreCommandConfig",
    "sweep": "experiments.sweep.config:SweepConfig",
    "train_baseline": "experiments.train_baseline.config:TrainBaselineConfig",
    "verify": "experiments.verify.config:VerifyConfig",
}
"""Configurations of programs that have one of their own, or more than an experiment's."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the configuration."""

    path: str
    """Dotted; ``[]`` stands for an entry of a list, and ``NAME`` for one of a dictionary."""
    hint: str
    """Type, as it is written in the code."""
    default: str
    """As YAML; empty where there is none."""
    text: str
    """Meaning; empty where the name says it."""
    is_section: bool
    """True if it holds keys of its own."""
    module: str
    """Where it is declared."""
    program: str = ""
    """Program whose configuration has it; empty for an experiment's."""

    @property
    def readers(self) -> tuple[str, ...]:
        """Programs that read its section; empty if any may."""
        if self.program:
            return (self.program,)
        return READERS_OF_SECTIONS.get(self.path.partition(".")[0].removesuffix("[]"), ())


def config_keys(schema: type = ExperimentConfig, path: str = "") -> Iterator[Key]:
    """Yield all keys in the order of the dataclasses, each section before what it holds."""
    hints, texts = typing.get_type_hints(schema), field_texts(schema)
    for field in dataclasses.fields(schema):
        # Set by the dataclass itself, and not by a user.
        if not field.init:
            continue
        hint = hints[field.name]
        name = f"{path}.{field.name}" if path else field.name
        sections = sections_in(hint)
        text = texts.get(field.name, "")
        # A section that says nothing at its field is described by its dataclass.
        if not text and sections and sections[0].__doc__:
            text = sections[0].__doc__.partition("\n")[0]
        yield Key(
            path=name,
            hint=_hint_text(hint),
            default=_default_text(field, bool(sections)),
            text=text,
            is_section=bool(sections),
            module=schema.__module__,
        )
        origin = typing.get_origin(hint)
        entry = {list: f"{name}[]", dict: f"{name}.{ANY_NAME}"}.get(origin, name)
        for section in sections:
            yield from config_keys(section, entry)


def program_keys() -> Iterator[Key]:
    """Yield the keys of all programs that an experiment's configuration does not have."""
    of_experiments = {key.path for key in config_keys()}
    for program, target in PROGRAM_SCHEMAS.items():
        module, _, name = target.partition(":")
        schema = getattr(importlib.import_module(module), name)
        is_extended = issubclass(schema, ExperimentConfig)
        for key in config_keys(schema):
            # Of a schema that extends an experiment's, only what it adds.
            if not (is_extended and key.path in of_experiments):
                yield dataclasses.replace(key, program=program)


def describe(wanted: str) -> str:
    """Describe a key, a section with what it holds, or all keys that contain ``wanted``.

    Keys of an experiment come first; without any, those of other programs.

    Args:
        wanted: Dotted key; a part of one; or empty for one line on every key.

    Raises:
        ValueError: No key is meant; the message names similar ones.
    """
    if not wanted:
        return "\n".join(_line(key) for key in config_keys())
    keys = list(config_keys())
    if described := _described(wanted, keys):
        return described
    # A bare name of other trainers may be a part of a program's own key, too.
    meant = own_key(ExperimentConfig, wanted)
    of_programs = [] if meant is not None and "." not in wanted else list(program_keys())
    if described := _described(wanted, of_programs):
        return described
    if meant is not None:
        told = f"{wanted}, as other trainers call it, is {meant.key} here. {meant.remark}".rstrip()
        return f"{told}\n\n{_described(meant.key, keys)}"
    similar = similar_keys(ExperimentConfig, wanted)
    hint = f"; similar are {', '.join(similar)}" if similar else ""
    raise ValueError(f"--describe: there is no key {wanted!r}{hint}")


def _described(wanted: str, keys: list[Key]) -> str:
    """Describe those of some keys that are meant; empty for none."""
    # data.train.0.root and data.train[0].root both mean data.train[].root.
    plain = ".".join(part for part in re.split(r"[.\[\]]+", wanted) if part and not part.isdigit())
    exact = [key for key in keys if _stands_for(key.path, plain)]
    if exact:
        below = [
            key
            for key in keys
            for one in exact
            if key.program == one.program
            and key.path.replace("[]", "").startswith(one.path.replace("[]", "") + ".")
        ]
        return "\n\n".join([*map(_full, exact), *map(_full, below)])
    return "\n\n".join(_full(key) for key in keys if plain in key.path.replace("[]", ""))


def _stands_for(path: str, wanted: str) -> bool:
    """Tell whether a key is the wanted one, which has the names that its user gave."""
    parts, others = path.replace("[]", "").split("."), wanted.split(".")
    return len(parts) == len(others) and all(
        part in (other, ANY_NAME) for part, other in zip(parts, others, strict=True)
    )


def reference() -> str:
    """Return the page of all keys, in Markdown."""
    lines = [
        f"# {REFERENCE_TITLE}",
        "",
        "Written by `python -m experiments.config --reference` from the code. `[]` stands for an",
        "entry of a list, which an override names by its number: `data.train.0.root=/x`. `NAME` is",
        "a name that you give.",
    ]
    program = ""
    for key in (*config_keys(), *program_keys()):
        if key.program != program:
            program = key.program
            lines += ["", f"# Further keys of `experiments.{program}`"]
        if "." not in key.path:
            readers = f" Read by {_readers(key)}." if key.readers else ""
            lines += ["", f"## `{key.path}`", ""]
            lines += [f"{_type_and_default(key)}. {key.text}{readers}".replace("``", "`")]
        else:
            lines += ["", f"- `{key.path}` ({_type_and_default(key)}). {key.text}".rstrip()]
            lines[-1] = lines[-1].replace("``", "`")
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vidreason experiment",
        **_object(ExperimentConfig),
    }


def _object(schema: type) -> dict[str, Any]:
    hints, texts = typing.get_type_hints(schema), field_texts(schema)
    properties = {}
    for field in dataclasses.fields(schema):
        if field.init:
            text = texts.get(field.name, "")
            properties[field.name] = _json_type(hints[field.name], whole=True)
            if text:
                properties[field.name]["description"] = text
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _json_type(hint: Any, *, whole: bool = False) -> dict[str, Any]:  # noqa: ANN401 - a type
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_json_type(one, whole=whole) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _json_type(arguments[0], whole=whole)}
    if origin is dict:
        values = _json_type(arguments[1], whole=whole)
        return {"type": "object", "additionalProperties": values}
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast(type, hint)) if whole else {"type": "object"}
    simple = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if hint is types.NoneType:
        return {"type": "null"}
    return {"type": simple[hint]} if hint in simple else {}


def _hint_text(hint: Any) -> str:  # noqa: ANN401 - a type
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_hint_text, arguments))
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(map(_hint_text, arguments))}]"
    return "null" if hint is types.NoneType else str(getattr(hint, "__name__", hint))


def _default_text(field: "dataclasses.Field[Any]", is_section: bool) -> str:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is dataclasses.MISSING or (is_section and default):
        return ""  # of a section, each key has its own
    written = yaml.safe_dump(default, default_flow_style=True, width=10_000)
    # Parts that come with the package are below its checkout, wherever that is.
    return written.replace(f"{_CHECKOUT}/", "").strip().removesuffix("...").strip()


def _type_and_default(key: Key) -> str:
    return f"{key.hint}, default {key.default}" if key.default else key.hint


def _readers(key: Key) -> str:
    return ", ".join(key.readers) or _ANY_PROGRAM


def _line(key: Key) -> str:
    return f"{key.path}: {key.hint}" if key.is_section else f"{key.path} = {key.default}"


def _full(key: Key) -> str:
    lines = [f"{key.path} ({_type_and_default(key)})"]
    lines += [f"    {line.strip()}" for line in key.text.splitlines()]
    lines.append(f"    Read by {_readers(key)}; declared in {key.module}.")
    return "\n".join(lines)
