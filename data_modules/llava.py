"""LLaVA's ``conversations`` files (haotian-liu/LLaVA, LLaVA-Video and many others).

Files that are found have rows of texts and of images between those of videos, ids that repeat or
are missing, ``human`` and ``gpt`` in other cases and under other names, conversations that begin
with an answer or end with a question, and, beside the video, keys for the part of it that is meant
(:mod:`data_modules.span_keys`) or for how it is to be sampled.
"""

from collections.abc import Iterator
from typing import Literal

from data_modules.conversations import Conversation, conversation_rows, read_conversations
from data_modules.files import Files
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows
from data_modules.span_keys import one_span, span_of
from vidreason.example import Example, Turn

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    **{"system": "system", "human": "user", "user": "user"},
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model"), "assistant"),
}
"""By the names of both sides in lower case."""

_OTHER_KEYS = ("id", "video", "image", "conversations")


def read_llava(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one example a question and answer; see :mod:`data_modules.conversations` for turns.

    Layout: ``<root>/<split>.json`` (an array, read as a stream) or ``<root>/<split>.jsonl`` with
    ``video`` (a path below ``root``), optionally the span of it that is meant, and
    ``conversations``: ``from`` (``human``, ``gpt``) and ``value``; ``split`` may be a path, such as
    ``0_30_s_academic/qa``. Left out and counted are rows without a video (texts, images), with
    several, with a span that is empty, or pointing at the video in the middle of the text. A
    malformed row is one without conversations, or whose turns do not alternate.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """

    def parse(row: Row) -> Conversation:
        if row.get("video") is None and "image" in row:
            raise row.unusable("an image, not a video")
        span = one_span([span_of(row, ignored=_OTHER_KEYS)], row, skipped)
        return Conversation(_videos(row), _turns(row), span)

    rows = conversation_rows(files, split, skipped)
    yield from read_conversations(rows, parse, f"llava:{split}", files.root, skipped)


def _videos(row: Row) -> list[str]:
    value = row.get("video")
    videos = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(video, str) and not is_nan_like(video) for video in videos):
        raise row.malformed(f"field 'video' must be a path, found {value!r:.200}")
    return videos


def _turns(row: Row) -> list[Turn]:
    turns = []
    for turn in row.objects("conversations"):
        role = turn.get("from")
        if not isinstance(role, str) or role.strip().lower() not in ROLES:
            raise row.malformed(
                f"field 'from' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        turns.append(Turn(ROLES[role.strip().lower()], turn.text("value")))
    return turns
