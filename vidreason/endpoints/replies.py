"""Strict parser of replies of the chat-completions form.

A reply that is not of the form says nothing about the model and is never stored; one that is of the
form is the model's output, whatever its text.
"""

import json
from dataclasses import dataclass
from typing import Any

from vidreason.secrets import printable

CUT = "the output was cut at the limit of tokens"
"""Problem of a reply whose text ends too early, but is the model's."""
REFUSED = "the endpoint refuses the texts of the request"
"""How the problem of a reply begins that is none: nothing was generated, and nothing paid for."""
_MAX_TOKENS = 10**9


class BadReplyError(RuntimeError):
    """A reply is not of the chat-completions form: a fault of the service, which may pass."""


class NoAnswerError(BadReplyError):
    """A reply is of the form, but has no choice, or no message in it.

    It may be a fault that passes. Some services refuse single requests so, each time.
    """


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """Output of a model."""

    text: str
    """Text as the model wrote it; may be empty."""
    problem: str = ""
    """Reason why ``text`` may not be a whole answer (cut, refused, filtered, a tool called); empty
    if the model ended by itself."""
    num_prompt_tokens: int = 0
    """Tokens of the prompt, pictures included, as the service counts them; 0 if it does not say."""
    num_generated_tokens: int = 0
    """Tokens of the output, as the service counts them; 0 if it does not say."""
    num_cached_tokens: int = 0
    """Tokens among those of the prompt that the service had cached, which it may charge less for;
    0 if it does not say."""


def read_reply(body: bytes) -> ChatReply:
    """Read the body of an answer with status 200.

    Args:
        body: Decompressed, and of bounded size.

    Raises:
        BadReplyError: It is no JSON of the form.
    """
    return reply_of(_json(body))


def reply_of(body: object) -> ChatReply:
    """Read the parsed body of an answer with status 200.

    Args:
        body: JSON.

    Raises:
        BadReplyError: It is not of the form, or has no answer (:class:`NoAnswerError`).
    """
    answer = _object(body, "the reply")
    # Some services answer an error with status 200.
    if answer.get("error"):
        raise BadReplyError(f"the reply is an error: {_message_of(answer['error'])}")
    choices = answer.get("choices")
    if choices == []:
        raise NoAnswerError(f"the reply has no answer: choices is {_kind(choices)}")
    if not isinstance(choices, list):
        raise BadReplyError(f"choices is {_kind(choices)}, not a list of at least one")
    choice = _object(choices[0], "choices[0]")
    if choice.get("error"):
        raise BadReplyError(f"choices[0] is an error: {_message_of(choice['error'])}")
    finish = choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise BadReplyError(f"choices[0].finish_reason is {_kind(finish)}, not a text")
    is_there = choice.get("message") is not None
    message = _object(choice["message"], "choices[0].message") if is_there else {}
    problem = _problem(message, finish or "")
    if not is_there and not problem:
        raise NoAnswerError("the reply has no answer: choices[0].message is null")
    usage = answer.get("usage")
    return ChatReply(
        text=_text(message.get("content")),
        problem=problem,
        num_prompt_tokens=_count(usage, "prompt_tokens"),
        num_generated_tokens=_count(usage, "completion_tokens"),
        num_cached_tokens=_num_cached(usage),
    )


def read_error(body: str) -> str:
    """Return the message in the body of an error, or the body itself; not cleaned."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if isinstance(answer, list) and len(answer) == 1:
        [answer] = answer  # Gemini puts its errors into a list
    if isinstance(answer, dict):
        return _message_of(answer.get("error") or answer)
    return body


def _json(body: bytes) -> Any:  # noqa: ANN401 - JSON
    if not body.strip():
        raise BadReplyError("the reply is empty")
    try:
        # Without the byte order mark that some servers begin with.
        return json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadReplyError("the reply is not UTF-8") from error
    except json.JSONDecodeError as error:
        begins = body[:80].decode("utf-8", "replace")
        raise BadReplyError(
            f"the reply is not JSON ({error.msg} at character {error.pos} of {len(error.doc)}); it "
            f"begins with {begins!r}"
        ) from error
    except ValueError as error:
        raise BadReplyError("the reply has a number of thousands of digits") from error
    except RecursionError as error:
        raise BadReplyError("the reply is JSON nested too deeply") from error


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadReplyError(f"{where} is {_kind(value)}, not an object")
    return value


def _text(content: object) -> str:
    """Return the text of a message: a string, or a list of parts, of which texts count."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [_object(part, "a part of the content") for part in content]
        texts = [part.get("text") for part in parts if part.get("type") in ("text", "output_text")]
        if not all(isinstance(text, str) for text in texts):
            raise BadReplyError("a part of the content has no text")
        content = "".join(str(text) for text in texts)
    if not isinstance(content, str):
        raise BadReplyError(f"choices[0].message.content is {_kind(content)}, not a text")
    # An unpaired surrogate can be written in JSON, but in no file.
    return content.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _count(usage: object, name: str) -> int:
    """Return a number of tokens; 0 for what is none, as no answer depends on it."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else 0


def _num_cached(usage: object) -> int:
    """Return the cached tokens; no more than the prompt has."""
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return min(_count(details, "cached_tokens"), _count(usage, "prompt_tokens"))


def _problem(message: dict[str, Any], finish: str) -> str:
    if refusal := message.get("refusal"):
        shown = f": {printable(refusal, 200)}" if isinstance(refusal, str) else ""
        return f"the model refused{shown}"
    calls = ("tool_calls", "function_call")
    if finish in calls or any(message.get(name) for name in calls):
        return "the model called a tool instead of answering"
    if finish == "length":
        return CUT
    if finish == "content_filter":
        return "the output was held back by the service's content filter"
    return ""


def _message_of(error: object) -> str:
    """Return the message of an error object, of any of the forms that services use."""
    if isinstance(error, dict):
        for name in ("message", "detail", "msg", "error"):
            if isinstance(error.get(name), str):
                return str(error[name])
        return ", ".join(str(name) for name in list(error)[:8])
    return error if isinstance(error, str) else _kind(error)


def _kind(value: object) -> str:
    """Describe a value for a message; its contents may be huge."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return f"a list of {len(value)}"
    return "an object"
