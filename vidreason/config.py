"""Typed configuration: dataclass defaults, then YAML files, then ``a.b=c`` overrides."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidreason.secrets import refuse_secrets

T = TypeVar("T")


def load_config(schema: type[T], argv: Sequence[str], *, program: str, description: str) -> T:
    """Read a program's command line into its configuration dataclass.

    ``--config`` may be given several times; a later file wins over an earlier one, and
    ``key.sub=value`` wins over all files. With ``--config paper.yaml --config small.yaml
    optimizer.learning_rate=3e-4`` the learning rate is 3e-4 whatever the two files say.

    Args:
        schema: The dataclass that gives keys, types and defaults.
        argv: The command line without the program's name.
        program: How the program is called, for ``--help``.
        description: One line for ``--help``.

    Returns:
        An instance of ``schema``; its ``__post_init__`` checks have run.

    Raises:
        ValueError: A file is missing, a key is unknown, a value has the wrong type or range, or is
            a secret. The message names the file or override and the field.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML file; repeatable"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="values that win over the files"
    )
    arguments = parser.parse_intermixed_args(list(argv))
    return merge_config(schema, arguments.config, arguments.overrides)


def merge_config(schema: type[T], files: Sequence[str], overrides: Sequence[str] = ()) -> T:
    """Merge ``files``, then ``overrides``, onto the defaults; see :func:`load_config`."""
    merged = OmegaConf.structured(schema)
    for file in files:
        if not Path(file).is_file():
            raise ValueError(f"--config: there is no file {file!r} (looked in {Path.cwd()})")
        merged = _merge(merged, lambda file=file: OmegaConf.load(file), file)
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"override {override!r} is not of the form key.sub=value")
        merged = _merge(
            merged, lambda override=override: OmegaConf.from_dotlist([override]), override
        )
    config = _to_object(schema, merged)
    refuse_secrets(dataclasses.asdict(cast(Any, config)))
    return config


def config_from_values(schema: type[T], values: Mapping[str, Any], source: str) -> T:
    """Turn plain values, such as JSON's, into a configuration dataclass; see :func:`load_config`.

    Args:
        schema: The dataclass; a field without a default must be among ``values``.
        values: By field, nested.
        source: Where they come from, for messages.

    Raises:
        ValueError: As :func:`load_config`.
    """
    merged = _merge(OmegaConf.structured(schema), lambda: OmegaConf.create(dict(values)), source)
    try:
        return _to_object(schema, merged)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def save_config(config: Any, path: Path) -> None:  # noqa: ANN401 - any configuration dataclass
    """Write a configuration dataclass as YAML that :func:`load_config` reads back."""
    if not dataclasses.is_dataclass(config):
        raise TypeError(f"save_config takes a dataclass instance, found {type(config).__name__}")
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


def _to_object(schema: type[T], merged: Any) -> T:  # noqa: ANN401 - OmegaConf is untyped
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(_one_line(error)) from error
    assert isinstance(config, schema)
    return config


def _merge(merged: Any, read: Any, source: str) -> Any:  # noqa: ANN401 - OmegaConf is untyped
    try:
        return OmegaConf.merge(merged, read())
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{source}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    return f"{key}: {message}" if key else message
