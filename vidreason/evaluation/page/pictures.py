"""Frames with the masks that became object tokens, as pictures inside HTML."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from segment_anything.utils.amg import rle_to_mask

from vidreason.example import Example, MediaSpan
from vidreason.perception.visual_tokens import OBJECT_TOKEN, MaskRuns, VisualTokens
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.config import SamplingConfig
from vidreason.video.limits import LARGE_SIDE
from vidreason.video.reader import DIRECT, VideoReader
from vidreason.video.sampling import (
    clip_frame_indices,
    key_frame_positions,
)

MASK_COLORS = ("#00c8ff", "#ff2fd0", "#9be600", "#ffffff", "#ff9100", "#7c4dff")
"""Colours of the first, second, ... object of a video; an object has one at all key frames."""
PICTURE_SIDE = 256
"""The longer side of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class KeyFrame:
    """A key frame with its masks drawn in."""

    seconds: float
    """From the start of the video."""
    num_objects: int | None
    """None where the objects are not known, because no store has the span's tokens."""
    data_uri: str


class PictureSource(Protocol):
    """A source of a page's pictures."""

    def span(self, question_id: str) -> MediaSpan | None:
        """MediaSpan that a question is about; None if that is not known."""
        ...

    def frames(self, span: MediaSpan) -> list[KeyFrame]:
        """The frames of a span; raises ``VideoReadError``."""
        ...


@dataclass(frozen=True)
class StoredPictures:
    """Key frames out of the video files, masks out of the store. Nothing is perceived."""

    spans: Mapping[str, MediaSpan]
    """By the id of the question."""
    source: VisualTokenSource

    @classmethod
    def of_examples(
        cls, examples: Iterable[Example], source: VisualTokenSource
    ) -> "StoredPictures":
        """Pictures for the questions of ``examples``."""
        spans = {example.id: example.media_span for example in examples}
        return cls(spans, source)

    def span(self, question_id: str) -> MediaSpan | None:
        """MediaSpan that a question is about."""
        return self.spans.get(question_id)

    def frames(self, span: MediaSpan) -> list[KeyFrame]:
        """The key frames of a span; without masks where its tokens are missing in the store.

        Raises:
            VideoReadError: The file cannot be read.
        """
        source = self.source
        tokens = None if source.store is None else source.store.get(source.key(*span))
        return key_frames(span, tokens, source.config.sampling, reader=source.reader)


def key_frames(
    span: MediaSpan,
    tokens: VisualTokens | None,
    sampling: SamplingConfig,
    *,
    reader: VideoReader = DIRECT,
) -> list[KeyFrame]:
    """The key frames of a span, each with the objects that became visual tokens.

    Where no objects are looked for, it is the middle frames of the clips. A frame that is several
    key frames of a short video is there once.

    Args:
        span: Video file, start and end in seconds.
        tokens: Of that span; None if they are not known.
        sampling: What the tokens were made with.
        reader: Reads the video.

    Raises:
        VideoReadError: The file cannot be read, or ends before the span.
    """
    media, start_seconds, end_seconds = span
    index = reader.index(media)
    start, end = index.span(start_seconds, end_seconds)
    zero = start_seconds or 0.0
    indices = clip_frame_indices(index.timestamps, index.duration_seconds, sampling, start, end)
    # Without key frames, the middle frame of each clip.
    middles = [(clip, sampling.frames_per_clip // 2) for clip in range(sampling.num_clips)]
    positions = key_frame_positions(sampling) or middles
    # A short video's frames repeat; each is shown once.
    chosen = list(dict.fromkeys(int(indices[position]) for position in positions))
    pictures = []
    frames = reader.read_frames(index, chosen, max_side=LARGE_SIDE)
    for frame, number in zip(frames, chosen, strict=True):
        seconds = float(index.timestamps[number])
        # As the perceiver has it: a span may begin while its first frame is shown already.
        masks = _masks_at(tokens, min(max(seconds, start), end) - zero)
        picture = draw_masks(frame.permute(1, 2, 0).numpy(), masks)
        pictures.append(
            KeyFrame(
                seconds=seconds,
                num_objects=None if tokens is None else len(masks),
                data_uri=data_uri(picture),
            )
        )
    return pictures


def draw_masks(
    frame: NDArray[np.uint8], masks: Sequence[tuple[int, NDArray[np.bool_]]]
) -> Image.Image:
    """A frame ``(H, W, 3)`` with ``(h, w)`` masks laid over it, outlined, in their tracks' colours.

    Args:
        frame: The picture; its longer side becomes ``PICTURE_SIDE``.
        masks: Track id and mask of each object.
    """
    picture = Image.fromarray(frame)
    scale = PICTURE_SIDE / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    for number, mask in masks:
        color = Image.new("RGB", size, MASK_COLORS[number % len(MASK_COLORS)])
        # The mask at the picture's size, its edge within in colour, and a dark line around it.
        smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(size)
        inside = smooth.point([255 * (value > 127) for value in range(256)])
        outline = ImageChops.difference(inside, inside.filter(ImageFilter.MinFilter(5)))
        border = ImageChops.difference(inside.filter(ImageFilter.MaxFilter(3)), inside)
        picture = Image.composite(Image.blend(picture, color, 0.25), picture, inside)
        picture.paste(color, mask=outline)
        picture.paste("#101010", mask=border)
    return picture


def data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG inside a ``data:`` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _masks_at(tokens: VisualTokens | None, seconds: float) -> list[tuple[int, NDArray[np.bool_]]]:
    """Track id and mask of the objects seen at a time, in seconds from the span's start."""
    if tokens is None:
        return []
    shown = (tokens.kinds == OBJECT_TOKEN) & ((tokens.spans[:, 0] - seconds).abs() < 1e-3)
    # By track, because the key frames of a short video may be one frame.
    masks: dict[int, MaskRuns] = {}
    for index in shown.nonzero()[:, 0].tolist():
        mask = tokens.masks[index]
        if mask is not None:
            masks[int(tokens.track_ids[index])] = mask
    return [(number, rle_to_mask(mask)) for number, mask in masks.items()]
