"""Frames and questions as the inputs of a video language model of transformers.

Its processor gets our frames with their times, never a video to sample from. Models that make more
tokens of larger frames get frames of at most a given number of pixels, scaled here, and are told to
leave them so: the number of visual tokens does not depend on a default of theirs.

Shapes: T frames, H height, W width, L tokens, B questions of a batch.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.video_utils import VideoMetadata

from vidreason.baselines.frames import Frames
from vidreason.baselines.video_turns import ChatForm, TurnForm
from vidreason.reasoning.control_tokens import Markup, encode_markup

_PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""Inputs beside the ids and the mask that have a value a token; 0 for text."""
_JOINED = frozenset(
    (
        *("pixel_values", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts"),
        *("video_merge_sizes", "video_compression_mask"),
        *("video_position_ids", "num_frames_per_video"),
    )
)
"""Inputs of which those of several videos are simply one after another. Others, such as indices
into the patches of all videos (Molmo2), are not: such videos are answered one by one."""


@dataclass(frozen=True)
class PromptRow:
    """One prompt about one video."""

    ids: list[int]
    """Tokens of the whole prompt, with a placeholder for each visual token."""
    markup: Markup
    """The text that the ids are of, but for a token that the tokenizer puts before all."""
    per_token: dict[str, list[int]]
    """Further values of each token."""
    visual: dict[str, Tensor]
    """The video as the model takes it, with a first axis along which videos are joined."""
    num_visual_tokens: int
    num_added: int
    """Tokens that the tokenizer puts before all."""

    def extended(self, ids: Sequence[int]) -> "PromptRow":
        """Return the prompt with text tokens after it."""
        zeros = [0] * len(ids)
        per_token = {name: [*values, *zeros] for name, values in self.per_token.items()}
        return replace(self, ids=[*self.ids, *ids], per_token=per_token)


class PlainTexts:
    """A tokenizer for a processor, in which users' texts hold no control tokens.

    The processor calls it with the prompt in which it has put placeholders for the video; the
    question is put in only then, and spelled out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._form: TurnForm | None = None
        self._question = ""
        self.markup = Markup(("",), ())
        """Text of the last prompt."""
        self.num_added = 0
        """Tokens before it that are not of its text."""
        # What the tokenizer puts before every text, such as <s>, where the template does not.
        some, none = (tokenizer("a", add_special_tokens=added).input_ids for added in (True, False))
        self._first: list[int] = some[: some.index(none[0])] if none[0] in some else []

    def expect(self, form: TurnForm, question: str) -> None:
        """Set the prompt that the processor is about to be given."""
        self._form, self._question = form, question

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the tokenizer's
        return getattr(self._tokenizer, name)

    def __call__(self, text: str | Sequence[str], **_: object) -> BatchEncoding:
        """Encode one prompt; the processor's options, such as padding, are for several."""
        assert self._form is not None
        [expanded] = [text] if isinstance(text, str) else text
        self.markup = self._form.prompt_markup(self._question, expanded)
        ids = encode_markup(self._tokenizer, self.markup)
        added = [] if ids[: len(self._first)] == self._first else self._first
        self.num_added = len(added)
        ids = [*added, *ids]
        return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]})


class VideoInputs:
    """Makes inputs of questions.

    Args:
        processor: Of transformers, with a tokenizer and a video processor.
        form: Its chat template's.
        placeholders: Token ids that stand for visual tokens.
        max_pixels: Most pixels of a frame, for models that make more tokens of larger frames.
        where: Field and value of the model, for messages.

    Raises:
        ValueError: ``max_pixels`` is less than the pixels of one token.
    """

    def __init__(
        self,
        processor: Any,  # noqa: ANN401 - of transformers
        form: ChatForm,
        placeholders: frozenset[int],
        max_pixels: int,
        where: str,
    ) -> None:
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        self._texts = PlainTexts(self.tokenizer)
        # A copy, so that the caller's processor keeps its tokenizer.
        self._processor = copy.copy(processor)
        self._processor.tokenizer = self._texts
        self._form = form
        self._placeholders = placeholders
        self._max_pixels = max_pixels
        self._side = pixels_of_a_token(processor.video_processor)
        self._scaled: tuple[Tensor, Tensor] | None = None
        """Frames of the last video, as they were read and as they were scaled."""
        if self._side and self._side**2 > max_pixels:
            raise ValueError(
                f"baselines.max_pixels is {max_pixels}, but one visual token of {where} covers "
                f"{self._side} x {self._side} pixels; set max_pixels to {self._side**2} or more"
            )

    def row(self, frames: Frames, question: str) -> PromptRow:
        """Return one question about one video.

        Args:
            frames: T frames; of none, the question is asked without a video.
            question: Without markup.

        Raises:
            ValueError: The tokenizer makes a control token of the question, however it is told.
        """
        blind = not len(frames.pixels)
        form = self._form.text_only if blind else self._form.with_video
        self._texts.expect(form, question.strip())
        video = {} if blind else self._video(frames)
        inputs = dict(self._processor(text=[form.prompt], return_tensors="pt", **video))
        ids = inputs.pop("input_ids")[0].tolist()
        del inputs["attention_mask"]  # one row has no padding
        per_token = {name: inputs.pop(name)[0].tolist() for name in _PER_TOKEN if name in inputs}
        visual = {name: torch.as_tensor(value) for name, value in inputs.items()}
        self._check_size(video, visual)
        num_visual = sum(token_id in self._placeholders for token_id in ids)
        texts = self._texts
        return PromptRow(ids, texts.markup, per_token, visual, num_visual, texts.num_added)

    def continuation(self, row: PromptRow, response: str) -> list[int]:
        """Return the ids of a response to a prompt, without those that end the turn.

        They are those that the response has in the whole turn: a tokenizer may join the blank
        before it to its first word.
        """
        form = self._form.with_video if row.visual else self._form.text_only
        marked = form.response_markup(response.strip())
        whole = encode_markup(self.tokenizer, row.markup + marked)
        prompt = row.ids[row.num_added :]
        # Where they would merge over the border, the prompt's ids win: generation starts there.
        if whole[: len(prompt)] != prompt:
            return encode_markup(self.tokenizer, marked)
        return whole[len(prompt) :]

    def _check_size(self, video: Mapping[str, Any], visual: Mapping[str, Tensor]) -> None:
        """Make sure that a processor has left the size of the frames as it was."""
        if not self._side or "video_grid_thw" not in visual:
            return
        patch = self._processor.video_processor.patch_size
        # The grid counts patches: (frames, rows, columns), of which the latter two are a size.
        size = [patch * int(number) for number in visual["video_grid_thw"][0][1:]]
        expected = list(video["videos"][0].shape[-2:])
        if size != expected:
            raise ValueError(
                f"{type(self._processor.video_processor).__name__} scaled frames of {expected} "
                f"pixels to {size}, though told not to: baselines.max_pixels would not hold; use "
                "another version of transformers"
            )

    def _video(self, frames: Frames) -> dict[str, Any]:
        pixels = frames.pixels
        options: dict[str, Any] = {"do_sample_frames": False}
        if self._side:
            # Questions about one video follow each other: it is scaled once.
            if self._scaled is None or self._scaled[0] is not pixels:
                self._scaled = (pixels, scaled(pixels, self._side, self._max_pixels))
            pixels = self._scaled[1]
            options["do_resize"] = False
            if hasattr(self._processor.video_processor, "cap_pixels_per_frame"):
                options["cap_pixels_per_frame"] = False  # else it warns about its default
        height, width = pixels.shape[-2:]
        # Indices such that an index divided by the rate is the frame's own time, to the end of the
        # number: frames of many videos are not evenly spaced.
        metadata = VideoMetadata(
            total_num_frames=frames.num_frames,
            fps=frames.rate,
            width=width,
            height=height,
            duration=frames.duration_seconds,
            frames_indices=[seconds * frames.rate for seconds in frames.seconds],  # type: ignore[misc]
        )
        return {"videos": [pixels], "videos_kwargs": {**options, "video_metadata": [[metadata]]}}


def pixels_of_a_token(video_processor: Any) -> int:  # noqa: ANN401 - of transformers
    """Return the side of the square that one visual token covers; 0 where frames have a fixed size.

    Processors that cut frames of any size into patches have ``patch_size`` and ``merge_size``.
    """
    patch = getattr(video_processor, "patch_size", None)
    merge = getattr(video_processor, "merge_size", None)
    return patch * merge if isinstance(patch, int) and isinstance(merge, int) else 0


def scaled_size(height: int, width: int, side: int, max_pixels: int) -> tuple[int, int]:
    """Return the size nearest to a frame's whose sides are multiples of ``side``.

    The rule of Qwen2-VL (``smart_resize``, github huggingface/transformers): each side is rounded,
    and both are shrunk by one factor where the frame has more than ``max_pixels``.
    """
    tall, wide = (max(round(length / side), 1) for length in (height, width))
    if tall * wide * side**2 > max_pixels:
        shrink = math.sqrt(max_pixels / (height * width))
        tall, wide = (max(int(length * shrink / side), 1) for length in (height, width))
        # One side of a very long frame is a whole token already.
        most = max_pixels // side**2
        tall, wide = min(tall, most // wide or 1), min(wide, most // tall or 1)
    return tall * side, wide * side


def scaled(pixels: Tensor, side: int, max_pixels: int) -> Tensor:
    """Scale frames, antialiased and bicubic as the models' processors do.

    Args:
        pixels: ``(T, 3, H, W)`` uint8.
        side: The new height and width are multiples of it.
        max_pixels: Most pixels of a frame.
    """
    height, width = pixels.shape[-2:]
    size = scaled_size(height, width, side, max_pixels)
    if size == (height, width):
        return pixels
    resized = functional.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def batches_of(rows: Sequence[PromptRow]) -> list[list[int]]:
    """Return the indices of rows that can be joined, group by group.

    Their videos have one shape but for the first axis, and can be put one after another.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        shapes = tuple((name, value.shape[1:]) for name, value in sorted(row.visual.items()))
        # Rows with an input that cannot be joined have a group each.
        alone = index if row.visual.keys() - _JOINED else None
        groups.setdefault((alone, *shapes), []).append(index)
    return list(groups.values())


def joined(
    rows: Sequence[PromptRow], pad_id: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return a batch of rows, padded on the left.

    Args:
        rows: B rows whose videos can be joined.
        pad_id: Token of the padding.
        device: Where to.
        dtype: Of pixels.

    Returns:
        ``input_ids``, ``attention_mask`` and further values of tokens, ``(B, L)`` int64, and the
        videos.
    """
    longest = max(len(row.ids) for row in rows)

    def padded(values: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[filler] * (longest - len(one)) + list(one) for one in values])

    batch = {
        "input_ids": padded([row.ids for row in rows], pad_id),
        "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        **{name: padded([row.per_token[name] for row in rows], 0) for name in rows[0].per_token},
        # (videos of a row, ...) -> (videos of all rows, ...)
        **{name: torch.cat([row.visual[name] for row in rows]) for name in rows[0].visual},
    }
    return {
        name: value.to(device, dtype if name.startswith("pixel") else value.dtype)
        for name, value in batch.items()
    }
