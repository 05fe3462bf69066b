"""Messages of the chat-completions form: plain texts, and parts with pictures and videos."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_REQUEST_BYTES = 48 * 2**20
"""Most characters of the contents of a request; services take some 50 MB."""
_MEDIA = ("image_url", "video_url")

CONTROL_TOKEN = re.compile(
    # Such as <|eot_id|> and <|im_start|>; DeepSeek's have full-width bars.
    r"<[|\uff5c][^<>|\uff5c\s]{1,60}[|\uff5c]>"
    r"|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|<</?SYS>>|\[/?INST\]"
    # The marks that stand for pictures, which templates write and servers count.
    r"|</?(?:image|video|img|vid)>|<image_soft_token>|\[/?IMG(?:_BREAK|_END)?\]|<IMG_CONTEXT>"
)
"""Strings that some server or tokenizer may read as a control token."""

Message = Mapping[str, Any]
"""``role`` and ``content``: a text, or a list of parts that the functions below make."""


def text_part(text: str) -> dict[str, Any]:
    """Return a part of plain text."""
    return {"type": "text", "text": text}


def image_part(jpeg: bytes) -> dict[str, Any]:
    """Return a part with a JPEG file in it."""
    return {"type": "image_url", "image_url": {"url": _data_url("image/jpeg", jpeg)}}


def video_part(mp4: bytes) -> dict[str, Any]:
    """Return a part with an mp4 file in it, which vLLM, SGLang and others take."""
    return {"type": "video_url", "video_url": {"url": _data_url("video/mp4", mp4)}}


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages without strings in their texts that a server may parse as control tokens.

    Raises:
        ValueError: A part is of another kind, or together they are too large for a request.
    """
    # Only texts are changed: media are base64, in which no such string can be.
    plain = [{**message, "content": _plain_content(message["content"])} for message in messages]
    size = sum(_size(message["content"]) for message in plain)
    if size > MAX_REQUEST_BYTES:
        raise ValueError(
            f"a request has {size / 2**20:.0f} MB, and at most {MAX_REQUEST_BYTES / 2**20:.0f} MB "
            "are sent: set fewer frames (num_frames) or smaller ones (max_pixels)"
        )
    return plain


def encodable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return ``value`` with ``?`` for each unpaired surrogate, which no request can carry."""
    match value:
        case str():
            # Strict UTF-8 would refuse half a character, which a model or a file may give.
            return value.encode("utf-8", "replace").decode()
        case list():
            return [encodable(item) for item in value]
        case dict():
            return {name: encodable(item) for name, item in value.items()}
    return value


def _plain_content(content: Any) -> Any:  # noqa: ANN401 - a text or a list of parts
    if isinstance(content, str):
        return _plain(content)
    return [_plain_part(part) for part in content]


def _plain_part(part: Message) -> dict[str, Any]:
    kind = part["type"]
    if kind == "text":
        return text_part(_plain(part["text"]))
    # An address would be fetched by the server, from wherever it can reach.
    if kind not in _MEDIA or not part[kind]["url"].startswith("data:"):
        raise ValueError(f"a part of a message is {kind!r}; parts are texts, and media as data:")
    return dict(part)


def _size(content: Any) -> int:  # noqa: ANN401 - a text or a list of parts
    if isinstance(content, str):
        return len(content)
    return sum(len(part["text"]) if "text" in part else len(_url(part)) for part in content)


def _url(part: Message) -> str:
    return str(part[part["type"]]["url"])


def _plain(text: str) -> str:
    """Return ``text`` with a blank in whatever may be a control token."""
    return CONTROL_TOKEN.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
