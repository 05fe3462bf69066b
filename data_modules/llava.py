"""LLaVA's ``conversations`` files (haotian-liu/LLaVA, LLaVA-Video and many others).

Files that are found have rows of texts and of images between those of videos, ids that repeat or
are missing, ``human`` and ``gpt`` in other cases and under other names, conversations that begin
with an answer or end with a question, and, beside the video, keys for the part of it that is meant
(:mod:`data_modules.span_keys`) or for how it is to be sampled.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import is_nan_like, text_field
from data_modules.conversations import Conversation, Turn, conversation_examples, own_id_of
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from data_modules.span_keys import one_span, span_of
from vidreason.example import Example

ROLES = {
    **{"system": "system", "human": "user", "user": "user"},
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model"), "assistant"),
}
"""By the names of both sides in lower case."""

_OWN_KEYS = ("id", "video", "image", "conversations")


def read_llava(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
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
    skipped = SkippedRows() if skipped is None else skipped

    def make(place: str, numbered: tuple[int, dict[str, Any]]) -> Iterator[Example]:
        number, row = numbered
        if row.get("video") is None and "image" in row:
            raise UnusableRowError(place, "an image, not a video")
        conversation = Conversation(
            id=str(number),
            own_id=own_id_of(row),
            videos=_videos(row.get("video"), place),
            turns=_turns(row.get("conversations"), place),
            span=one_span([span_of(row, place, ignored=_OWN_KEYS)], place, skipped),
        )
        yield from conversation_examples(conversation, "llava", split, root, place, skipped)

    rows = enumerate(_rows(Path(root), split, skipped))
    numbered = ((place, (number, row)) for number, (place, row) in rows)
    yield from examples_of(numbered, make, skipped)


def _rows(root: Path, split: str, skipped: SkippedRows) -> Iterator[tuple[str, dict[str, Any]]]:
    array, lines = root / f"{split}.json", root / f"{split}.jsonl"
    note_file(array)
    note_file(lines)
    if array.is_file() and lines.is_file():
        raise ValueError(f"there are both {array} and {lines}: keep one of them")
    if lines.is_file():
        return read_json_lines(lines, skipped)
    return read_json_array(array, skipped)


def _videos(value: Any, place: str) -> list[str]:  # noqa: ANN401 - any JSON value
    videos = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(video, str) and not is_nan_like(video) for video in videos):
        raise MalformedRowError(place, f"field 'video' must be a path, found {value!r:.200}")
    return videos


def _turns(value: Any, place: str) -> list[Turn]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise MalformedRowError(
            place,
            "field 'conversations' must be a list of objects with 'from' and 'value', found "
            f"{value!r:.200}",
        )
    turns = []
    for turn in value:
        role = turn.get("from")
        if not isinstance(role, str) or role.strip().lower() not in ROLES:
            raise MalformedRowError(
                place, f"field 'from' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        turns.append(Turn(ROLES[role.strip().lower()], text_field(turn, "value", place)))
    return turns
