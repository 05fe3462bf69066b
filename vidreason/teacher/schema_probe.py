"""A probe of an endpoint: does it really honour a JSON schema?

Servers leave fields that they do not know out of account with status 200 (``transformers serve``
does so with ``response_format``), so a status tells nothing. One tiny request does: its schema
allows a single answer that the prompt does not mention and no model gives by chance.

Nothing like it is known for ``seed``: a server that leaves it out answers like one that heeds it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vidreason.endpoints.cache import ReplyCache, request_key
from vidreason.endpoints.errors import EndpointRefusedError
from vidreason.endpoints.replies import ChatReply
from vidreason.secrets import printable
from vidreason.teacher.prompt import response_format

RESPONSE_FORMAT = "response_format"
"""Field of a request that a schema is sent in."""

_PROMPT = "Greet me in one short sentence."
_ONLY_ANSWER = {"greeting": "quartz lantern 58213 under a patient heron"}
_FORMAT = response_format(
    "greeting",
    {
        "type": "object",
        "properties": {
            name: {"type": "string", "enum": [value]} for name, value in _ONLY_ANSWER.items()
        },
        "required": list(_ONLY_ANSWER),
        "additionalProperties": False,
    },
)
_REFUSED_FIELD = (400, 422)
"""Status of a request with a field that is not taken."""

Complete = Callable[[str, dict[str, Any]], ChatReply]
"""Sends a text with further fields of the request's body, as
:meth:`vidreason.endpoints.client.ChatEndpoint.complete` does."""


class SchemaProbe(NamedTuple):
    """Result of a probe."""

    is_honoured: bool
    """True if answers can be relied on to be of a schema."""
    detail: str
    """Reason; printable."""


def probe_schema(
    cache: ReplyCache, model_id: str, fields: Mapping[str, Any], complete: Complete
) -> SchemaProbe:
    """Ask an endpoint once, with the fields of all further requests; the reply is stored.

    Args:
        cache: Of all replies; an endpoint that was asked before is not asked again.
        model_id: Names model and endpoint, as in the cache.
        fields: Fields of each request.
        complete: Sends a request.

    Raises:
        EndpointUnavailableError: It gave no reply, which tells nothing.
        EndpointRefusedError: It refuses all requests, such as for a wrong key.
        BudgetSpentError: No further request may be paid for.
    """
    sent = {**fields, RESPONSE_FORMAT: _FORMAT}

    def send() -> ChatReply:
        try:
            return complete(_PROMPT, sent)
        except EndpointRefusedError as error:
            # Below it is the status error of the openai package.
            if getattr(error.__cause__, "status_code", None) not in _REFUSED_FIELD:
                raise
            # This refusal tells of the schema: it is stored like a reply, and not asked for again.
            return ChatReply(text="", problem=f"refused: {error}")

    return _judged(cache.reply(model_id, _probe_request(sent), send))


def stored_probe(cache: ReplyCache, model_id: str, fields: Mapping[str, Any]) -> SchemaProbe | None:
    """Return the result of an earlier probe; None where there was none. Sends nothing."""
    key = request_key(model_id, _probe_request({**fields, RESPONSE_FORMAT: _FORMAT}))
    reply = cache.stored(key)
    return None if reply is None else _judged(reply)


def _probe_request(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": _PROMPT, "fields": dict(sent)}


def _judged(reply: ChatReply) -> SchemaProbe:
    if reply.problem:
        return SchemaProbe(False, printable(f"the probe had no answer: {reply.problem}"))
    try:
        answer = json.loads(reply.text)
    except (ValueError, RecursionError):
        answer = None
    if answer == _ONLY_ANSWER:
        return SchemaProbe(True, "the probe's answer is the only one of its schema")
    shown = printable(reply.text, 80)
    detail = f"the schema of the probe was left out of account; the answer is {shown!r}"
    return SchemaProbe(False, detail)
