"""Questions about frames as messages of the chat-completions form, and what decides each of them.

Baselines and teachers that are served elsewhere ask in this one way.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vidreason.baselines.encoded_frames import JPEG_QUALITY, VIDEO_QUALITY, jpegs, mp4
from vidreason.baselines.frames import Frames
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.messages import image_part, text_part, video_part
from vidreason.endpoints.replies import CUT, ChatReply
from vidreason.example import Turn, split_system

FramesAs = Literal["images", "video"]
"""Pictures, each with its time, which all endpoints take; or one video, which some take."""


class FrameRequest(NamedTuple):
    """One question with its frames."""

    content: str | list[dict[str, Any]]
    """Content of the message."""
    shown: dict[str, Any]
    """Everything that decides the messages, as JSON. The files themselves do not: x264 writes other
    bytes of the same pictures now and then, and the request would be paid for again."""
    system: tuple[dict[str, Any], ...] = ()
    """Messages before it."""
    later: tuple[dict[str, Any], ...] = ()
    """Messages after it: of a conversation whose first question has the frames."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages."""
        return [*self.system, {"role": "user", "content": self.content}, *self.later]


def text_request(
    prompt: str, fields: dict[str, Any], earlier_turns: Sequence[Turn] = ()
) -> FrameRequest:
    """Return a question without frames, of plain texts, which every server takes.

    Args:
        prompt: The question.
        fields: Further fields of the request.
        earlier_turns: The conversation that it goes on with.
    """
    shown = {"prompt": prompt, "fields": fields}
    if not earlier_turns:
        return FrameRequest(prompt, shown)
    system, turns = split_system(earlier_turns)
    # The first question is the one that frames are put before.
    first, *later = [*turns, Turn("user", prompt)]
    return FrameRequest(
        first.text,
        shown | {"earlier_turns": [[turn.role, turn.text] for turn in earlier_turns]},
        () if system is None else ({"role": "system", "content": system},),
        tuple({"role": turn.role, "content": turn.text} for turn in later),
    )


def with_frames(
    blind: FrameRequest, parts: Sequence[dict[str, Any]], shown: dict[str, Any]
) -> FrameRequest:
    """Put frames before the first question of a request of texts.

    Args:
        blind: Of :func:`text_request`.
        parts: Of :func:`frame_parts`.
        shown: Of :func:`frames_shown`.
    """
    assert isinstance(blind.content, str)
    content = [*parts, text_part(blind.content)]
    return blind._replace(content=content, shown=blind.shown | shown)


def frames_shown(video: Frames, frames_as: FramesAs, max_pixels: int) -> dict[str, Any]:
    """Return what decides the parts of :func:`frame_parts`, as JSON."""
    pixels = video.pixels.cpu().contiguous().numpy()
    return {
        "pixels": [hashlib.sha256(pixels.tobytes()).hexdigest(), list(pixels.shape)],
        "seconds": [*video.seconds, video.duration_seconds],
        "sent": [frames_as, max_pixels, JPEG_QUALITY, VIDEO_QUALITY],
    }


def frame_parts(video: Frames, frames_as: FramesAs, max_pixels: int) -> list[dict[str, Any]]:
    """Return what stands before a question: the frames as parts of a message."""
    if frames_as == "video":
        return [video_part(mp4(video, max_pixels))]
    parts = []
    files = jpegs(video, max_pixels)
    for number, (seconds, file) in enumerate(zip(video.seconds, files, strict=True), start=1):
        when = f"at {seconds:.2f} s of {video.duration_seconds:.2f} s"
        parts += [text_part(f"Frame {number} of {len(files)}, {when}:"), image_part(file)]
    return parts


def encoding(frames_as: FramesAs) -> dict[str, Any]:
    """Return the quality of the files that frames are sent as."""
    return {"h264_crf": VIDEO_QUALITY} if frames_as == "video" else {"jpeg_quality": JPEG_QUALITY}


def is_refused(reply: ChatReply) -> bool:
    """Tell whether the endpoint, or the model, did not give an answer; a cut one is given."""
    return reply.problem not in ("", CUT)


def unseen_video(model_id: str, shown: ChatReply, blind: ChatReply) -> str:
    """Say why an endpoint does not seem to look at videos; empty if it does.

    Servers leave out parts of kinds that they do not know, and answer from the text alone. The
    tokens that they count for a prompt tell.

    Args:
        model_id: Names the model, for the message.
        shown: Reply to a question with a video.
        blind: Reply to the question alone.
    """
    # A server that counts no tokens gives 0, which is no proof either.
    if 0 < blind.num_prompt_tokens < shown.num_prompt_tokens:
        return ""
    return (
        f"frames_as=video: {model_id} counts {shown.num_prompt_tokens} prompt tokens for a "
        f"question with a video and {blind.num_prompt_tokens} without, so it does not seem to look "
        "at videos; set frames_as=images"
    )


def endpoint_problems(config: EndpointConfig) -> list[str]:
    """Say what would keep an endpoint from being used, a line each; sends nothing."""
    reasons = []
    for check in (config.key, config.proxy):
        try:
            check()
        except ValueError as error:
            reasons.append(str(error))
    missing = [name for name in ("openai", "httpx2") if importlib.util.find_spec(name) is None]
    if missing:
        reasons.append(
            f"an endpoint needs the package {missing[0]}: pip install 'vidreason[endpoints]'"
        )
    return reasons
