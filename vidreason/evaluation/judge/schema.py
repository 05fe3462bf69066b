"""Strict reading of a judge's JSON: what is checked is the schema that the judge is shown."""

import json
import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


class InvalidVerdictError(ValueError):
    """A judge's output is not what was asked for. It is counted, never replaced by a guess."""


def read_object(text: str, schema: Schema) -> dict[str, Any]:
    """Read one JSON object that meets ``schema``; a Markdown fence around it is taken off.

    Args:
        text: What the judge wrote.
        schema: JSON schema of the words that :func:`check` knows.

    Raises:
        InvalidVerdictError: Anything else is written, or a key is there twice.
    """
    fenced = _FENCE.match(text)
    try:
        value = json.loads(
            fenced[1] if fenced else text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise InvalidVerdictError(f"not one JSON object: {error.msg}") from error
    except RecursionError as error:
        raise InvalidVerdictError("nested too deeply") from error
    check(value, schema, "output")
    assert isinstance(value, dict)
    return value


def check(value: object, schema: Schema, where: str) -> None:
    """Check a value against ``type``, ``enum``, bounds, ``items``, ``properties`` of a schema.

    Objects must have exactly the properties that the schema names.

    Raises:
        InvalidVerdictError: The value does not meet the schema; the message says where.
    """
    kind = schema.get("type")
    types: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int}
    if kind is not None and (not isinstance(value, types[kind]) or isinstance(value, bool)):
        raise InvalidVerdictError(f"{where} is {_short(value)}, not of type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidVerdictError(f"{where} is {_short(value)}, not one of {schema['enum']}")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        raise InvalidVerdictError(
            f"{where} is {value}, not from {schema['minimum']} to {schema['maximum']}"
        )
    if isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            raise InvalidVerdictError(
                f"{where} has {len(value)} items, at most are allowed {schema['maxItems']}"
            )
        for index, item in enumerate(value):
            check(item, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        expected = schema["properties"]
        if value.keys() != expected.keys():
            raise InvalidVerdictError(
                f"{where} has the keys {sorted(value)}, not exactly {sorted(expected)}"
            )
        for name, own in expected.items():
            check(value[name], own, f"{where}.{name}")


def object_schema(**properties: Schema) -> dict[str, Any]:
    """The schema of an object that has exactly ``properties``, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise InvalidVerdictError(f"a key is there twice among {names}")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise InvalidVerdictError(f"{name} is not JSON")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
