"""Typed configuration: dataclass defaults, then YAML files, then ``a.b=c`` overrides.

OmegaConf merges them and says what fits, see :mod:`vidreason.typed_merge`, but resolves nothing.
Values are literal. ``${...}``, which other tools replace by environment variables or by other
values, is an error that names the field, and so is ``???``: a configuration comes from anywhere,
and is recorded and published.
"""

import argparse
import dataclasses
import difflib
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml

from vidreason.command_line import CommandLineParser
from vidreason.key_paths import similar_keys
from vidreason.literal_yaml import (
    Emptied,
    Items,
    Node,
    Section,
    YamlError,
    is_null,
    merged,
    node_of,
    not_literal,
    plain_value,
    read_yaml,
    shown,
)
from vidreason.other_trainers import own_key
from vidreason.secrets import refuse_secrets, without_secrets

T = TypeVar("T")

MAX_CONFIG_BYTES = 2**20
"""Size of the largest YAML file that is read."""
_MAX_SHOWN = 20  # problems in one message; a file of another kind may have thousands


class ConfigurationError(ValueError):
    """A configuration that cannot be used.

    Attributes:
        problems: All that is wrong with it, a line each: where, field, what was found, remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = [*self.problems[:_MAX_SHOWN]]
        if len(self.problems) > _MAX_SHOWN:
            shown.append(f"and {len(self.problems) - _MAX_SHOWN} more")
        super().__init__("; ".join(shown))


def config_parser(
    program: str, description: str, schema: type[Any] | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a program's ``--config FILE`` and ``key.sub=value``.

    Args:
        program: How the program is called, for ``--help``.
        description: One line for ``--help``.
        schema: The configuration dataclass, whose keys are named where an option is unknown.
    """
    parser = _Parser(prog=program, description=description)
    parser.schema = schema
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML file; repeatable"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="values that win over the files"
    )
    return parser


class _Parser(CommandLineParser):
    """Says of an unknown option by which key it is set."""

    schema: type[Any] | None = None

    def error(self, message: str) -> NoReturn:
        # argparse tells of an unknown option by this message alone.
        _, unrecognised, options = message.partition("unrecognized arguments: ")
        if unrecognised and options.startswith("-"):
            name, _, value = options.lstrip("-").replace("=", " ").partition(" ")
            message += "; a setting is given without dashes, as key.sub=value"
            paths = [] if self.schema is None else similar_keys(self.schema, name.replace("-", "_"))
            if difflib.get_close_matches(name, ["config"]) or name == "c":
                message += ", and a file by --config FILE"
            elif meant := None if self.schema is None else own_key(self.schema, name):
                message += f": {meant.key}=... {meant.remark}".rstrip()
            elif paths:
                message += f": {paths[0]}={value.partition(' ')[0] or '...'}"
        super().error(message)


def merge_config(schema: type[T], files: Sequence[str], overrides: Sequence[str] = ()) -> T:
    """Merge YAML files, then overrides, onto the defaults of a configuration dataclass.

    A later file wins over an earlier one, and ``key.sub=value`` wins over all files. With
    ``--config paper.yaml --config small.yaml optimizer.learning_rate=3e-4`` the learning rate is
    3e-4 whatever the two files say.

    Args:
        schema: The dataclass that gives keys, types and defaults.
        files: Paths of YAML files.
        overrides: Of the form ``key.sub=value``.

    Returns:
        An instance of ``schema``; its ``__post_init__`` checks have run.

    Raises:
        ConfigurationError: A file is missing, a key is unknown, or a value has the wrong type or
            range. The messages name the file with its line or the override, and the field.
        ValueError: A value is a secret.
    """
    from vidreason.typed_merge import typed  # OmegaConf, which no --help needs

    tree: Node = Section({}, "")
    # Files in their order, then overrides: each wins over those before it.
    problems = []
    for read, sources in ((_read_file, files), (_read_override, overrides)):
        for source in sources:
            try:
                tree = merged(tree, read(source))
            except ValueError as error:
                problems.append(str(error))
    config, more = typed(schema, tree)
    if problems or more:
        raise ConfigurationError([*problems, *more])
    assert config is not None
    # Configurations are written into run folders and checkpoints.
    refuse_secrets(dataclasses.asdict(cast(Any, config)))
    return config


def config_from_values(schema: type[T], values: Mapping[str, Any], source: str) -> T:
    """Turn plain values, such as JSON's, into a configuration dataclass; see :func:`merge_config`.

    Args:
        schema: The dataclass; a field without a default must be among ``values``.
        values: By field, nested. A number has to be a number, and no text of one.
        source: Where they come from, for messages.

    Raises:
        ConfigurationError: As :func:`merge_config`.
    """
    from vidreason.typed_merge import typed

    try:
        tree = node_of(values, source)
    except YamlError as error:
        raise ConfigurationError([str(error)]) from error
    config, problems = typed(schema, tree)
    if problems:
        raise ConfigurationError(problems)
    assert config is not None
    return config


def save_config(config: Any, path: Path) -> None:  # noqa: ANN401 - any configuration dataclass
    """Write a configuration dataclass as YAML that :func:`merge_config` reads back.

    Raises:
        ConfigurationError: It holds a value that would not be read back.
    """
    path.write_text(to_yaml(config))


def to_yaml(config: Any) -> str:  # noqa: ANN401 - any configuration dataclass
    """A configuration dataclass, with all its defaults, as :func:`save_config` writes it."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"save_config takes a dataclass instance, found {type(config).__name__}")
    values = dataclasses.asdict(config)
    problems = not_literal(node_of(values, type(config).__name__))
    if problems:
        raise ConfigurationError(problems)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that would be read as something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = plain_value(text) != text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if quoted else None)


_Dumper.add_representer(str, _represent_text)


def _read_file(file: str) -> Section:
    try:
        status = Path(file).stat()
    except (OSError, ValueError) as error:
        raise ValueError(f"--config: there is no file {file!r} (looked in {Path.cwd()})") from error
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"--config: {file!r} is a folder; name a YAML file in it")
    # Told apart before it is read: a pipe would be waited for.
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"--config: {file!r} is no regular file")
    if status.st_size > MAX_CONFIG_BYTES:
        raise ValueError(
            f"--config: {file!r} has {status.st_size:,} bytes, too many for a configuration "
            f"(at most {MAX_CONFIG_BYTES:,})"
        )
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"--config: {file!r} cannot be read: {error.strerror}") from error
    try:
        # Without the byte order mark that some editors put first.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}:{line}: not UTF-8 (byte {content[error.start]:#04x}); save it as UTF-8"
        ) from error
    # An empty file is an empty section.
    tree = read_yaml(text, file)
    if isinstance(tree, Section):
        return tree
    if is_null(tree):
        return Section({}, file)
    shape = "a list" if isinstance(tree, Items) else "a value"
    raise ValueError(f"{tree.where}: {shape} at the top; expected keys, each with its value")


def _read_override(override: str) -> Node:
    key, equals, text = override.partition("=")
    where = f"override {shown(without_secrets(override))}"
    if not equals:
        dash = override[:1] in "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{NON-BREAKING HYPHEN}"
        hint = "; no spaces stand around '='"
        if dash:
            hint = f"; it begins with the dash U+{ord(override[0]):04X}, not '--'"
        elif override.endswith((".yaml", ".yml")):
            hint = f"; a file is given as --config {override}"
        raise ValueError(f"{where} is not of the form key.sub=value{hint}")
    if text.startswith("="):
        raise ValueError(f"{where} has two '='; write {key}={text.lstrip('=')}")
    names = re.sub(r"\[(\d+)\]", r".\1", key).split(".")  # entries are named as in messages, too
    if not all(names) or any(name != name.strip() for name in names):
        raise ValueError(f"{where} is not of the form key.sub=value: its key is {key!r}")
    node = read_yaml(text, where, lines=False) if text else Emptied(where)
    for name in reversed(names):
        node = Section({name: node}, where)
    return node
