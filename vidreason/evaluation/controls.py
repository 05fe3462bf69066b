"""Control runs, in which the visual tokens are replaced: what accuracy remains is not the video's.

A control is a source of visual tokens around the true source, so that everything else of the
evaluation is the same.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vidreason.evaluation.config import Control
from vidreason.example import Example, MediaSpan
from vidreason.perception.visual_tokens import (
    CLIP_TOKEN,
    OBJECT_TOKEN,
    TokenSource,
    VisualTokens,
)
from vidreason.video.failures import VideoReadError

_ROUNDING = 1e-4  # of a time, as a share of the video's length
Content = TypeVar("Content")


def controlled_source(
    source: TokenSource, examples: Sequence[Example], control: Control, seed: int = 0
) -> TokenSource:
    """Return the source that a run under ``control`` reads.

    * ``none``: the video's own tokens.
    * ``half_frames``: the first half of the video, :func:`first_half`.
    * ``single_frame``: one moment, :func:`single_moment`.
    * ``blind``: no visual token at all.
    * ``shuffled_frames``: all moments in another order, :func:`shuffled_frames`.
    * ``shuffled``: for each span, the tokens of a span of another video of ``examples`` that can be
      read, never of its own; :func:`read_stand_in`.
    * ``random``: as many tokens with Gaussian features of the same mean and standard deviation, and
      random boxes and areas for objects, because positions tell what happened too. The number of
      objects and the times of clips and key frames stay.

    Args:
        source: The true source.
        examples: All questions of the run; ``shuffled`` draws from their videos.
        control: Which control.
        seed: Seed of what is drawn; the same span always gives the same tokens.

    Raises:
        ValueError: The control cannot be made; see :func:`why_not_made`.
    """
    match control:
        case "none":
            return source
        case "shuffled":
            return StandInSource(source, stand_in_spans(examples, seed))
    return ChangedSource(source, _CHANGES[control], seed)


def why_not_made(control: Control, examples: Sequence[Example]) -> str:
    """Say why a control cannot be made of the videos of ``examples``; empty if it can.

    Evaluations show such a control as n/a, which is not zero.
    """
    if control != "shuffled" or len({example.media for example in examples}) > 1:
        return ""
    return (
        "the control 'shuffled' shows another video, and all questions are about one: add a "
        "question about a second video"
    )


@dataclass(frozen=True)
class StandInSource:
    """Another video's tokens."""

    source: TokenSource
    stand_ins: dict[MediaSpan, MediaSpan]
    """For each span, one of another video file; of :func:`stand_in_spans`."""

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """The tokens of what stands in for a span."""
        span = (media, start_seconds, end_seconds)
        return read_stand_in(self.stand_ins, span, lambda one: self.source(*one))


@dataclass(frozen=True)
class ChangedSource:
    """The video's own tokens after a change; the video must be readable under every control."""

    source: TokenSource
    change: Callable[[VisualTokens, torch.Generator], VisualTokens]
    """Draws from a generator that is the span's own."""
    seed: int

    def __call__(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """The changed tokens of a span, the same ones at every call."""
        span = (media, start_seconds, end_seconds)
        return self.change(self.source(*span), span_generator(self.seed, span))


def no_tokens(tokens: VisualTokens, generator: torch.Generator) -> VisualTokens:
    """The video without tokens."""
    return tokens.without_tokens()


def first_half(tokens: VisualTokens, generator: torch.Generator) -> VisualTokens:
    """The first half of the video: what can be answered before the rest is seen.

    Left are the clips that end by the middle of the video, and the object tokens of key frames up
    to there. Their times, and the video's length, stay as they are.
    """
    # (N,) seconds; clips may end at the middle, computed in single precision.
    middle = tokens.duration_seconds / 2 + _ROUNDING * tokens.duration_seconds
    return tokens.select((tokens.spans[:, 1] <= middle).nonzero()[:, 0].tolist())


def single_moment(tokens: VisualTokens, generator: torch.Generator) -> VisualTokens:
    """One moment of the video: what can be answered without seeing anything happen.

    Left are the token of the middle clip and the object tokens of one key frame, the one nearest to
    that clip's middle; of two in the middle, the earlier. A clip token comes from several frames
    (``frames_per_clip``) and so may still know of motion within its clip: with 4 clips, a quarter
    of the video. Truly one frame has only a video that is perceived anew with one frame, which a
    store cannot give.
    """
    # (N, 2) -> (N,) seconds
    middles = tokens.spans.mean(dim=1)
    kept = torch.zeros(len(tokens), dtype=torch.bool)
    moment = tokens.duration_seconds / 2
    for kind in (CLIP_TOKEN, OBJECT_TOKEN):
        of_kind = tokens.kinds == kind
        # Clips first: the key frame is chosen by the clip's middle.
        if of_kind.any():
            times = middles[of_kind].tolist()
            moment = min(times, key=lambda time: (abs(time - moment), time))
            kept |= of_kind & (middles == moment)
    return tokens.select(kept.nonzero()[:, 0].tolist())


def shuffled_frames(tokens: VisualTokens, generator: torch.Generator) -> VisualTokens:
    """The same content in another order: what can be answered without knowing what came first.

    Clips exchange their times, never all of them keeping their own where there are two. Key frames
    move with the clip in which they lie, and those of one clip exchange their times in it. A
    token's feature, box and area stay with it. Order inside a clip, which its token may know of,
    is not destroyed.
    """
    is_clip = tokens.kinds == CLIP_TOKEN
    clips = tokens.spans[is_clip]
    if not len(clips):
        return tokens
    # Clips take each other's spans; key frames follow theirs.
    order = other_order(len(clips), generator)
    spans = tokens.spans.clone()
    spans[is_clip] = clips[order]
    spans[~is_clip] = torch.from_numpy(
        _moved_times(tokens.spans[~is_clip, 0].numpy(), clips.numpy(), order, generator)
    )[:, None].clamp(0.0, tokens.duration_seconds)
    # Tokens of a kind come by time, as in a video that was never shuffled.
    in_order = sorted(
        range(len(tokens)), key=lambda token: (int(tokens.kinds[token]), float(spans[token, 0]))
    )
    return replace(tokens, spans=spans).select(in_order)


def _moved_times(
    times: NDArray[np.float32],
    clips: NDArray[np.float32],
    order: list[int],
    generator: torch.Generator,
) -> NDArray[np.float32]:
    """New times of key frames, when each clip gets the span of the clip that ``order`` names."""
    moved = times.copy()
    # The clip in which each key frame lies; the last one has no end.
    clip_of_frame = np.searchsorted(clips[:-1, 1], times, side="right")
    for clip in np.unique(clip_of_frame):
        members = clip_of_frame == clip
        moments, which = np.unique(times[members], return_inverse=True)
        order_inside = (
            torch.randperm(len(moments), generator=generator).tolist()
            if len(clips) > 1
            else other_order(len(moments), generator)
        )
        (start, end), (new_start, new_end) = clips[clip], clips[order[clip]]
        # The same place in the new span, which may be shorter or longer.
        moments = new_start + (moments - start) * ((new_end - new_start) / (end - start))
        moved[members] = moments[order_inside][which]
    return moved


def random_tokens(tokens: VisualTokens, generator: torch.Generator) -> VisualTokens:
    """Noise of the same size and scale."""
    if len(tokens) == 0:
        return tokens
    features = tokens.features.float()
    # (N, D), of the features' mean and standard deviation.
    noise = torch.randn(features.shape, generator=generator)
    noise = noise * features.std(correction=0) + features.mean()
    is_object = tokens.kinds == OBJECT_TOKEN
    # (N, two corners, xy), the lower values first -> (N, 4) boxes, (N, 2) sides.
    corners = torch.rand(len(tokens), 2, 2, generator=generator).sort(dim=1).values
    boxes = torch.where(is_object[:, None], corners.flatten(1), tokens.boxes)
    sides = corners[:, 1] - corners[:, 0]
    areas = torch.where(is_object, sides.prod(dim=1), tokens.areas)
    return replace(
        tokens,
        features=noise.to(tokens.features.dtype),
        boxes=boxes,
        areas=areas,
        masks=(None,) * len(tokens),
    )


_CHANGES: dict[Control, Callable[[VisualTokens, torch.Generator], VisualTokens]] = {
    "half_frames": first_half,
    "single_frame": single_moment,
    "blind": no_tokens,
    "shuffled_frames": shuffled_frames,
    "random": random_tokens,
}


def span_generator(seed: int, span: MediaSpan) -> torch.Generator:
    """The generator of a span: what is drawn for it does not depend on earlier draws."""
    name = f"{seed}|{span[0]}|{span[1]}|{span[2]}".encode()
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1
    )


def other_order(number: int, generator: torch.Generator) -> list[int]:
    """A random order of ``number`` things that is not their own, if there is another."""
    order = same = list(range(number))
    while order == same and number > 1:
        order = torch.randperm(number, generator=generator).tolist()
    return order


def stand_in_spans(examples: Sequence[Example], seed: int) -> dict[MediaSpan, MediaSpan]:
    """Each span's stand-in: one of the next video in a random circle of all, so none of its own.

    The spans of a video get those of the next one in turn, in the order of the examples.

    Raises:
        ValueError: There is no other video.
    """
    if reason := why_not_made("shuffled", examples):
        raise ValueError(reason)
    # Spans of each video, each once.
    by_media: dict[str, dict[MediaSpan, None]] = {}
    for example in examples:
        by_media.setdefault(example.media, {})[example.media_span] = None
    media = sorted(by_media)
    circle = [media[index] for index in np.random.default_rng(seed).permutation(len(media))]
    stand_ins = {}
    for current, following in zip(circle, [*circle[1:], circle[0]], strict=True):
        others = list(by_media[following])
        for number, span in enumerate(by_media[current]):
            stand_ins[span] = others[number % len(others)]
    return stand_ins


def read_stand_in(
    stand_ins: Mapping[MediaSpan, MediaSpan], span: MediaSpan, read: Callable[[MediaSpan], Content]
) -> Content:
    """Read what stands in for a span: the first that can be read, going round the circle of videos.

    As under every other control, the span's own video must be readable. So a missing video makes
    its own questions unreadable and no others, and the rows of all controls have the same ones.

    Args:
        stand_ins: Of all spans; of :func:`stand_in_spans`.
        span: The span of the question.
        read: Reads a span.

    Raises:
        VideoReadError: The span's own video cannot be read, or none of the others.
    """
    read(span)
    stand_in = stand_ins[span]
    while True:
        try:
            return read(stand_in)
        except VideoReadError:
            stand_in = stand_ins[stand_in]
            if stand_in[0] == span[0]:  # once round
                raise
