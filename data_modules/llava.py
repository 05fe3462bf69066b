"""LLaVA's ``conversations`` files (haotian-liu/LLaVA, LLaVA-Video and many others)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, text_field
from data_modules.conversations import Conversation, Turn, conversation_examples
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant"} | {
    "assistant": "assistant"
}


def read_llava(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one example a question and answer; see :mod:`data_modules.conversations` for turns.

    Layout: ``<root>/<split>.json`` (an array, read as a stream) or ``<root>/<split>.jsonl`` with
    ``video`` (a path below ``root``) and ``conversations``: ``from`` (``human``, ``gpt``) and
    ``value``; ``split`` may be a path, such as ``0_30_s_academic/qa``. Left out and counted are
    rows without a video (texts, images), with several, or pointing at it in the middle of the text.

    Raises:
        ValueError: A file or field is missing or malformed, or turns do not alternate.
    """
    skipped = SkippedRows() if skipped is None else skipped
    for number, (place, row) in enumerate(_rows(Path(root), split)):
        own_id = id_field(row, "id", place) if row.get("id") is not None else ""
        videos = row.get("video")
        if "video" not in row and "image" in row:
            skipped.record(place, "an image, not a video")
            continue
        conversation = Conversation(
            id=str(number),
            own_id=own_id,
            videos=_videos(videos, place),
            turns=_turns(row.get("conversations"), place),
        )
        yield from conversation_examples(conversation, "llava", split, root, place, skipped)


def _rows(root: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    array, lines = root / f"{split}.json", root / f"{split}.jsonl"
    note_file(array)
    note_file(lines)
    if array.is_file() and lines.is_file():
        raise ValueError(f"there are both {array} and {lines}: keep one of them")
    return read_json_lines(lines) if lines.is_file() else read_json_array(array)


def _videos(value: Any, place: str) -> list[str]:  # noqa: ANN401 - any JSON value
    videos = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(video, str) and not is_nan_like(video) for video in videos):
        raise ValueError(f"{place}: field 'video' must be a path, found {value!r:.200}")
    return videos


def _turns(value: Any, place: str) -> list[Turn]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise ValueError(
            f"{place}: field 'conversations' must be a list of objects with 'from' and 'value', "
            f"found {value!r:.200}"
        )
    turns = []
    for turn in value:
        role = turn.get("from")
        if not isinstance(role, str) or role not in ROLES:
            raise ValueError(
                f"{place}: field 'from' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        turns.append(Turn(ROLES[role], text_field(turn, "value", place)))
    return turns
