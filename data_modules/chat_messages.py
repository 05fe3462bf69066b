"""JSON lines with ``messages`` and ``videos``, as ms-swift, LLaMA-Factory and others read them.

Files that are found have the video beside the messages or in their contents, as a path, as
``file://`` (Qwen), as an object, or as OpenAI's ``video_url``; and beside it the part that is meant
(``video_start``, ``video_end``: :mod:`data_modules.span_keys`) or how it is to be sampled (``fps``,
``nframes``, ``max_pixels``), which the configuration of the perceiver says here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import is_nan_like, text_field
from data_modules.conversations import Conversation, Turn, conversation_examples, own_id_of
from data_modules.json_files import read_json_lines
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from data_modules.span_keys import SpanKeys, one_span, span_of
from vidreason.example import Example

ROLES = ("system", "user", "assistant")

_OWN_KEYS = ("id", "messages", "videos", "images", "audios")
_PATH_KEYS = ("path", "video", "video_url", "url", "file", "type")
_FRAMES = "its video is a list of frames"


def read_chat_messages(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one example a question and answer; see :mod:`data_modules.conversations` for turns.

    Layout: ``<root>/<split>.jsonl`` with ``messages`` (``role``: ``system``, ``user``,
    ``assistant``; ``content``: a text, or a list of parts of the types ``text`` and ``video``) and
    ``videos``, a list of paths below ``root`` (or of objects with ``path``). The span of the video
    that is meant may stand in the row or in the object that names the video. Left out and counted
    are rows without a video, with several, with frames instead of a video, with images or sound,
    with a span that is empty, or pointing at the video in the middle of the text.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped

    def make(place: str, numbered: tuple[int, dict[str, Any]]) -> Iterator[Example]:
        number, row = numbered
        turns, inside = _turns(row.get("messages"), place)
        listed = row.get("videos") or []
        if not isinstance(listed, list):
            listed = [listed]
        if row.get("images") or row.get("audios"):
            raise UnusableRowError(place, "it has images or sound, not only a video")
        videos = [_video(video, place) for video in [*listed, *inside]]
        spans = [span_of(row, place, ignored=_OWN_KEYS), *(span for _, span in videos)]
        conversation = Conversation(
            id=str(number),
            own_id=own_id_of(row),
            videos=[path for path, _ in videos],
            turns=turns,
            span=one_span(spans if len(videos) == 1 else [], place, skipped),
        )
        yield from conversation_examples(conversation, "chat_messages", split, root, place, skipped)

    rows = enumerate(read_json_lines(Path(root, f"{split}.jsonl"), skipped))
    yield from examples_of(((place, (n, row)) for n, (place, row) in rows), make, skipped)


def _turns(value: Any, place: str) -> tuple[list[Turn], list[Any]]:  # noqa: ANN401
    """The turns, and the videos that stand in their contents."""
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise MalformedRowError(
            place,
            "field 'messages' must be a list of objects with 'role' and 'content', found "
            f"{value!r:.200}",
        )
    turns: list[Turn] = []
    videos: list[Any] = []
    for message in value:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise MalformedRowError(
                place, f"field 'role' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        if not isinstance(content, list):
            turns.append(Turn(role, text_field(message, "content", place)))
            continue
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                texts.append(text_field(part, "text", place))
            elif kind in ("video", "video_url"):
                videos.append(part)
            elif isinstance(kind, str) and kind.startswith(("image", "audio", "input_audio")):
                raise UnusableRowError(place, "it has images or sound, not only a video")
            else:
                raise MalformedRowError(
                    place,
                    "field 'content': expected parts of the types text and video, found "
                    f"{part!r:.200}",
                )
        turns.append(Turn(role, "\n".join(texts)))
    return turns, videos


def _video(video: Any, place: str) -> tuple[str, SpanKeys]:  # noqa: ANN401 - any JSON value
    """The path of a video, and the span that the object which names it tells."""
    path: Any = video
    fields: dict[str, Any] = {}
    if isinstance(video, dict):
        path, fields = next((video[key] for key in _PATH_KEYS[:-1] if video.get(key)), None), video
        if isinstance(path, dict):  # OpenAI's video_url
            path, fields = path.get("url"), path | video
    if isinstance(path, list):
        raise UnusableRowError(place, _FRAMES)
    if not isinstance(path, str) or is_nan_like(path):
        raise MalformedRowError(place, f"field 'videos': expected paths, found {video!r:.200}")
    return path, span_of(fields, place, ignored=_PATH_KEYS)
