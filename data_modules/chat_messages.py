"""JSON lines with ``messages`` and ``videos``, as ms-swift, LLaMA-Factory and others read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, text_field
from data_modules.conversations import Conversation, Turn, conversation_examples
from data_modules.json_files import read_json_lines
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

ROLES = ("system", "user", "assistant")


def read_chat_messages(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one example a question and answer; see :mod:`data_modules.conversations` for turns.

    Layout: ``<root>/<split>.jsonl`` with ``messages`` (``role``: ``system``, ``user``,
    ``assistant``; ``content``: a text, or a list of parts of the types ``text`` and ``video``) and
    ``videos``, a list of paths below ``root`` (or of objects with ``path``). Left out and counted
    are rows without a video, with several, with frames instead of a video, with images or sound, or
    pointing at the video in the middle of the text.

    Raises:
        ValueError: A file or field is missing or malformed, or turns do not alternate.
    """
    skipped = SkippedRows() if skipped is None else skipped
    for number, (place, row) in enumerate(read_json_lines(Path(root, f"{split}.jsonl"))):
        own_id = id_field(row, "id", place) if row.get("id") is not None else ""
        turns, inside = _turns(row.get("messages"), place)
        listed = row.get("videos") or []
        if not isinstance(listed, list):
            raise ValueError(f"{place}: field 'videos' must be a list, found {listed!r:.200}")
        if row.get("images") or row.get("audios"):
            skipped.record(place, "it has images or sound, not only a video")
            continue
        if any(isinstance(video, list) for video in [*listed, *inside]):
            skipped.record(place, "its video is a list of frames")
            continue
        videos = [_path(video, place) for video in [*listed, *inside]]
        conversation = Conversation(id=str(number), own_id=own_id, videos=videos, turns=turns)
        yield from conversation_examples(conversation, "chat_messages", split, root, place, skipped)


def _turns(value: Any, place: str) -> tuple[list[Turn], list[Any]]:  # noqa: ANN401
    """The turns, and the videos that stand in their contents."""
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise ValueError(
            f"{place}: field 'messages' must be a list of objects with 'role' and 'content', "
            f"found {value!r:.200}"
        )
    turns: list[Turn] = []
    videos: list[Any] = []
    for message in value:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ValueError(
                f"{place}: field 'role' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        if not isinstance(content, list):
            turns.append(Turn(role, text_field(message, "content", place)))
            continue
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                texts.append(text_field(part, "text", place))
            elif kind == "video":
                videos.append(part.get("video"))
            else:
                raise ValueError(
                    f"{place}: field 'content': expected parts of the types text and video, found "
                    f"{part!r:.200}"
                )
        turns.append(Turn(role, "\n".join(texts)))
    return turns, videos


def _path(video: Any, place: str) -> str:  # noqa: ANN401 - any JSON value
    path = video.get("path") if isinstance(video, dict) else video
    if not isinstance(path, str) or is_nan_like(path):
        raise ValueError(f"{place}: field 'videos': expected paths, found {video!r:.200}")
    return path
