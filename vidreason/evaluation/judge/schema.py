"""Strict reading of a judge's JSON: what is checked is the schema that the judge is shown."""

import json
from collections.abc import Mapping
from typing import Any

from vidreason.endpoints.replies import ChatReply
from vidreason.json_object import shown
from vidreason.secrets import printable

Schema = Mapping[str, Any]

_FENCE = "```"
_MAX_REASON_CHARS = 200


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
    try:
        value = json.loads(
            _without_fence(text),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise InvalidVerdictError(f"not one JSON object: {error.msg}") from error
    # It is a ValueError as well, and says what is wrong.
    except InvalidVerdictError:
        raise
    except ValueError as error:
        raise InvalidVerdictError("a number has thousands of digits") from error
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
    # Python's True and False are integers; JSON's are not.
    if kind is not None and (not isinstance(value, types[kind]) or isinstance(value, bool)):
        raise InvalidVerdictError(f"{where} is {shown(value)}, not of type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidVerdictError(f"{where} is {shown(value)}, not one of {schema['enum']}")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        raise InvalidVerdictError(
            f"{where} is {shown(value)}, not from {schema['minimum']} to {schema['maximum']}"
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
                f"{where} has the keys {shown(sorted(value))}, not exactly {sorted(expected)}"
            )
        # A missing or further key was refused above.
        for name, expected_type in expected.items():
            check(value[name], expected_type, f"{where}.{name}")


def why_invalid(error: InvalidVerdictError, reply: ChatReply) -> str:
    """The reason why an output is no verdict, of bounded length."""
    reason = printable(str(error), _MAX_REASON_CHARS)
    return f"{reply.problem}: {reason}" if reply.problem else reason


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
        raise InvalidVerdictError(f"a key is there twice among {shown(names)}")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise InvalidVerdictError(f"{name} is not JSON")


def _without_fence(text: str) -> str:
    """The inside of a Markdown fence of JSON, or ``text`` where there is none around it."""
    stripped = text.strip()
    fenced = stripped.startswith(_FENCE) and stripped.endswith(_FENCE)
    if not fenced or len(stripped) < 2 * len(_FENCE):
        return text
    language, line_end, inside = stripped[len(_FENCE) : -len(_FENCE)].partition("\n")
    return inside if line_end and language.strip() in ("", "json") else text
