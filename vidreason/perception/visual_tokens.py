"""``VisualTokens``: what is left of a video after perception (3.1, ``[Z_global; Z_obj]``).

Shapes: B batch, V visual tokens, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CLIP_TOKEN = 0
OBJECT_TOKEN = 1


class MaskRuns(TypedDict):
    """A binary mask as run lengths in column-major order that begin with zeros.

    This is COCO's uncompressed form.
    """

    size: list[int]
    """Height and width in pixels of the frame as it is displayed."""
    counts: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class VisualTokens:
    """The visual tokens of one video: clip tokens first, then object tokens by key frame.

    Each token carries its kind and time span and, for objects, box, area and mask, so that an
    answer can point back.
    """

    features: Tensor
    """Shape ``(V, D)``, floating point."""
    kinds: Tensor
    """Shape ``(V,)``, int64: ``CLIP_TOKEN`` or ``OBJECT_TOKEN``."""
    spans: Tensor
    """Shape ``(V, 2)``, float32: start and end in seconds from the start of the perceived span. An
    object's span is the time of its key frame, twice."""
    boxes: Tensor
    """Shape ``(V, 4)``, float32: x0, y0, x1, y1 as fractions of the displayed frame. Clip tokens:
    the whole frame."""
    areas: Tensor
    """Shape ``(V,)``, float32: the mask's share of the frame's pixels. Clip tokens: 1."""
    track_ids: Tensor
    """Shape ``(V,)``, int64: tokens of one object at several key frames share an id, which counts
    from 0 in the order of first sight. Clip tokens: -1."""
    masks: tuple[MaskRuns | None, ...]
    """Length ``V``; None for clip tokens."""
    duration_seconds: float
    """Length of the perceived span."""

    def __len__(self) -> int:
        return self.features.shape[0]

    def without_tokens(self) -> "VisualTokens":
        """The same video with no visual token left: the input of the blind control."""
        return self.select([])

    def with_objects(self, limit: int) -> "VisualTokens":
        """The same video with at most ``limit`` objects of each key frame, the first in rank.

        Key frames are told apart by their time: a short video's frame that is looked at twice
        counts as one. Track ids stay, so some may be missing.
        """
        kept, num_seen = [], dict[float, int]()
        for index, (kind, time) in enumerate(
            zip(self.kinds.tolist(), self.spans[:, 0].tolist(), strict=True)
        ):
            if kind == OBJECT_TOKEN:
                num_seen[time] = num_seen.get(time, 0) + 1
            if kind != OBJECT_TOKEN or num_seen[time] <= limit:
                kept.append(index)
        return self.select(kept)

    def select(self, indices: list[int]) -> "VisualTokens":
        """Some tokens in the order of ``indices``; track ids stay those of the whole video."""
        chosen = {name: tensor[indices] for name, tensor in self._tensors().items()}
        masks = tuple(self.masks[index] for index in indices)
        return replace(self, masks=masks, **cast(dict[str, Any], chosen))

    @staticmethod
    def concatenate(parts: Sequence["VisualTokens"]) -> "VisualTokens":
        """All tokens of parts of one video, in their order."""
        tensors = [part._tensors() for part in parts]
        joined = {name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}
        masks = tuple(mask for part in parts for mask in part.masks)
        return replace(parts[0], masks=masks, **cast(dict[str, Any], joined))

    def _tensors(self) -> dict[str, Tensor]:
        """The fields with a row per token, but for the masks."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


TokenSource = Callable[[str, float | None, float | None], VisualTokens]
"""Visual tokens of ``(media, start_seconds, end_seconds)``; raises ``VideoReadError``."""


class VisualBatch(TypedDict):
    """Visual tokens of B videos, padded to the longest.

    A dict, because pinned memory and device moves handle dicts.
    """

    features: Tensor
    """``(B, V, D)``"""
    mask: Tensor
    """``(B, V)`` bool, True for a real token."""
    kinds: Tensor
    """``(B, V)`` int64"""
    spans: Tensor
    """``(B, V, 2)`` float32 seconds"""
    boxes: Tensor
    """``(B, V, 4)`` float32"""
    areas: Tensor
    """``(B, V)`` float32"""
    track_ids: Tensor
    """``(B, V)`` int64"""
    durations: Tensor
    """``(B,)`` float32 seconds"""


def move_visual_tokens(batch: VisualBatch, device: torch.device) -> VisualBatch:
    """Move the tensors of ``batch`` to ``device``."""
    tensors = cast(dict[str, Tensor], batch)
    return cast(VisualBatch, {name: tensor.to(device) for name, tensor in tensors.items()})


def collate_visual_tokens(videos: Sequence[VisualTokens]) -> VisualBatch:
    """Pad the tokens of several videos with zeros to one batch; a video may have no token."""
    lengths = torch.tensor([len(video) for video in videos])
    longest = max(int(lengths.max()), 1)  # attention needs at least one column, if a padded one

    def pad(tensors: list[Tensor]) -> Tensor:
        padded = pad_sequence(tensors, batch_first=True)
        # Zeros after the last token, none along the axes after it: (B, V, ...)
        return torch.nn.functional.pad(
            padded, [0, 0] * (padded.dim() - 2) + [0, longest - padded.shape[1]]
        )

    return VisualBatch(
        features=pad([video.features for video in videos]),
        mask=torch.arange(longest)[None, :] < lengths[:, None],  # (1, V) < (B, 1)
        kinds=pad([video.kinds for video in videos]),
        spans=pad([video.spans for video in videos]),
        boxes=pad([video.boxes for video in videos]),
        areas=pad([video.areas for video in videos]),
        track_ids=pad([video.track_ids for video in videos]),
        durations=torch.tensor([video.duration_seconds for video in videos], dtype=torch.float32),
    )
