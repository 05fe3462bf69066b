"""JSON lines with ``messages`` and ``videos``, as ms-swift, LLaMA-Factory and others read them.

Files that are found have the video beside the messages or in their contents, as a path, as
``file://`` (Qwen), as an object, or as OpenAI's ``video_url``; and beside it the part that is meant
(``video_start``, ``video_end``: :mod:`data_modules.span_keys`) or how it is to be sampled (``fps``,
``nframes``, ``max_pixels``), which the configuration of the perceiver says here.
"""

from collections.abc import Iterator
from typing import Any

from data_modules.conversations import Conversation, conversation_rows, read_conversations
from data_modules.files import Files
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows
from data_modules.span_keys import SpanKeys, one_span, span_of
from vidreason.example import Example, Turn

ROLES = ("system", "user", "assistant")

_OTHER_KEYS = ("id", "messages", "videos", "images", "audios")
_NOT_ONLY_VIDEO = "it has images or sound, not only a video"
_PATH_KEYS = ("path", "video", "video_url", "url", "file", "type")


def read_chat_messages(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one example a question and answer; see :mod:`data_modules.conversations` for turns.

    Layout: ``<root>/<split>.jsonl`` or ``<root>/<split>.json`` (an array) with ``messages``
    (``role``: ``system``, ``user``, ``assistant``; ``content``: a text, or a list of parts of the
    types ``text`` and ``video``) and ``videos``, a list of paths below ``root`` (or of objects with
    ``path``). The span of the video that is meant may stand in the row or in the object that names
    the video. Left out and counted are rows without a video, with several, with frames instead of a
    video, with images or sound,
    with a span that is empty, or pointing at the video in the middle of the text.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """

    def parse(row: Row) -> Conversation:
        turns, inside = _turns(row)
        # Videos are listed beside the messages, or are parts of their contents.
        listed = row.get("videos") or []
        if not isinstance(listed, list):
            listed = [listed]
        if row.get("images") or row.get("audios"):
            raise row.unusable(_NOT_ONLY_VIDEO)
        videos = [_video(video, row) for video in [*listed, *inside]]
        spans = [span_of(row, ignored=_OTHER_KEYS), *(span for _, span in videos)]
        span = one_span(spans if len(videos) == 1 else [], row, skipped)
        return Conversation([path for path, _ in videos], turns, span)

    rows = conversation_rows(files, split, skipped)
    yield from read_conversations(rows, parse, f"chat_messages:{split}", files.root, skipped)


def _turns(row: Row) -> tuple[list[Turn], list[Any]]:
    """The turns, and the videos that stand in their contents."""
    turns: list[Turn] = []
    videos: list[Any] = []
    for message in row.objects("messages"):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise row.malformed(
                f"field 'role' must be one of {', '.join(ROLES)}, found {role!r:.200}"
            )
        # Contents are a text, or parts of several kinds.
        if not isinstance(content, list):
            turns.append(Turn(role, message.text("content")))
            continue
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                texts.append(Row(part, row.location).text("text"))
            elif kind in ("video", "video_url"):
                videos.append(part)
            # Sound for others, but not for us: counted, not an error.
            elif isinstance(kind, str) and kind.startswith(("image", "audio", "input_audio")):
                raise row.unusable(_NOT_ONLY_VIDEO)
            else:
                raise row.malformed(
                    "field 'content': expected parts of the types text and video, found "
                    f"{part!r:.200}"
                )
        turns.append(Turn(role, "\n".join(texts)))
    return turns, videos


def _video(video: Any, row: Row) -> tuple[str, SpanKeys]:  # noqa: ANN401 - any JSON value
    """The path of a video, and the span that the object which names it gives."""
    path: Any = video
    fields: dict[str, Any] = {}
    if isinstance(video, dict):
        path, fields = next((video[key] for key in _PATH_KEYS[:-1] if video.get(key)), None), video
        if isinstance(path, dict):  # OpenAI's video_url
            path, fields = path.get("url"), path | video
    if isinstance(path, list):
        raise row.unusable("its video is a list of frames")
    if not isinstance(path, str) or is_nan_like(path):
        raise row.malformed(f"field 'videos': expected paths, found {video!r:.200}")
    return path, span_of(Row(fields, row.location), ignored=_PATH_KEYS)
