"""Masks of everything on a frame: a grid of points, each answered with masks, the best ones kept.

This is ``SamAutomaticMaskGenerator`` of the ``segment_anything`` package without crops, for any
model that answers points, and gives the masks that it gives. Key frames and points are batched, and
what is expensive is done only for masks that pass the filters before it.

Shapes: n frames, P points, m masks, H x W the frames as they are segmented, ``a x b`` the
resolution of a model's masks.
"""

from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vidreason.perception.config import SegmenterConfig
from vidreason.perception.segmenter import ObjectMask

_PIXELS_AT_ONCE = 2**24
"""Mask pixels that are compared with the cut-offs at once: 64 MB of logits."""


class PointMasks(NamedTuple):
    """A model's masks for points on frames; frames are outermost, then points."""

    frames: Tensor
    """``(m,)`` the number of each mask's frame."""
    qualities: Tensor
    """``(m,)`` the IoU with the true mask that the model predicts."""
    logits: Tensor
    """``(m, a, b)``, positive inside of the mask, over the network's square input."""


class PromptableModel(Protocol):
    """A frozen network that says which masks a point on a frame may mean."""

    image_size: int
    """Side in pixels of the square network input."""
    keeps_aspect: bool
    """True if a frame's longer side is resized to ``image_size`` and the rest padded at the bottom
    or the right; else both sides are resized to it."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """From uint8 RGB ``(n, 3, h, w)``, resized but not padded, to tensors of n rows."""
        ...

    def decode(self, levels: tuple[Tensor, ...], points: Tensor, min_quality: float) -> PointMasks:
        """Answer float64 ``points`` ``(P, 2)``, x and y in pixels of the network input, each alone.

        Args:
            levels: What :meth:`encode` gave, or the same rows of each.
            points: Asked on every frame.
            min_quality: Only masks of a higher predicted quality are returned.
        """
        ...


class _Candidates(NamedTuple):
    """Masks that passed the filters, at the model's own resolution."""

    frames: Tensor
    qualities: Tensor
    logits: Tensor
    stabilities: Tensor
    boxes: Tensor
    """``(m, 4)`` float32 x0, y0, x1, y1 of the outermost pixels of the mask."""


class GridSegmenter:
    """A :class:`~vidreason.perception.segmenter.Segmenter` that asks a model about every point."""

    def __init__(self, model: PromptableModel, config: SegmenterConfig) -> None:
        self.model = model
        self.config = config

    @torch.inference_mode()
    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """Masks on uint8 RGB frames ``(n, 3, H, W)``; on each frame the best first, none empty."""
        # Frames at the size at which they are segmented, and the grid in pixels of the network.
        frames = limit_side(frames, self.config.max_frame_side)
        size = frames.shape[2:]
        input_size = self._input_size(*size)
        points = point_grid(self.config.points_per_side) * torch.tensor(input_size[::-1])
        # Encode a batch of frames, decode all points on it, keep each frame's best masks.
        objects: list[list[ObjectMask]] = []
        for some in torch.split(frames, self.config.frames_per_batch):
            levels = self.model.encode(resize_frames(some, *input_size))
            candidates = self._candidates(levels, points, size, input_size)
            objects += [
                self._objects(_rows(candidates, candidates.frames == frame), size, input_size)
                for frame in range(len(some))
            ]
        return objects

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame in the network's input, without padding."""
        side = self.model.image_size
        if not self.model.keeps_aspect:
            return side, side
        scale = side / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def _candidates(
        self,
        levels: tuple[Tensor, ...],
        points: Tensor,
        size: tuple[int, ...],
        input_size: tuple[int, int],
    ) -> _Candidates:
        """Masks of all points on all frames; several frames are decoded at once if they fit."""
        # At most points_per_batch prompts at once: all points of several frames, or some of those
        # of one.
        at_once = self.config.points_per_batch
        frames_at_once = max(at_once // len(points), 1)
        candidates = []
        for first in range(0, len(levels[0]), frames_at_once):
            some = tuple(level[first : first + frames_at_once] for level in levels)
            for chunk in torch.split(points, at_once):
                answered = self.model.decode(some, chunk, self.config.pred_iou_threshold)
                kept = self._filter(answered, size, input_size)
                # The model counts frames within its batch.
                candidates.append(kept._replace(frames=kept.frames + first))
        return _Candidates(*(torch.cat(parts) for parts in zip(*candidates, strict=True)))

    def _filter(
        self, answered: PointMasks, size: tuple[int, ...], input_size: tuple[int, int]
    ) -> _Candidates:
        """Keep stable masks with pixels. Boxes are found at the frame's resolution, in chunks."""
        offset = self.config.stability_offset
        kept = []
        at_once = max(_PIXELS_AT_ONCE // (size[0] * size[1]), 1)
        for frames, qualities, low in zip(
            *(torch.split(part, at_once) for part in answered), strict=True
        ):
            logits = self._resize_logits(low, size, input_size)  # (m, a, b) -> (m, H, W)
            # SAM's stability: the IoU of the mask at a higher and at a lower cut-off, of which one
            # is inside the other.
            stabilities = _count(logits > offset) / _count(logits > -offset)
            rows, columns = logits.amax(2) > 0, logits.amax(1) > 0
            candidates = _Candidates(frames, qualities, low, stabilities, _outermost(rows, columns))
            # A mask without a pixel above -offset is 0 / 0 stable, which passes no threshold.
            stable = stabilities >= self.config.stability_threshold
            kept.append(_rows(candidates, stable & rows.any(1)))
        return _Candidates(*(torch.cat(parts) for parts in zip(*kept, strict=True)))

    def _objects(
        self, candidates: _Candidates, size: tuple[int, ...], input_size: tuple[int, int]
    ) -> list[ObjectMask]:
        """One frame's masks without duplicates."""
        from torchvision.ops import nms

        # Duplicates go by their boxes, before masks take their full size.
        best = nms(candidates.boxes, candidates.qualities, self.config.box_nms_threshold)
        kept = _rows(candidates, best)
        at_once = max(_PIXELS_AT_ONCE // (size[0] * size[1]), 1)
        # (m, a, b) -> (m, H, W) bool
        masks = torch.cat(
            [
                self._resize_logits(logits, size, input_size) > 0.0
                for logits in torch.split(kept.logits, at_once)
            ]
        )
        # One transfer from the device for all masks: (m, H, W) -> areas and outermost pixels.
        areas = _count(masks).tolist()
        boxes = _outermost(masks.any(2), masks.any(1)).long().tolist()
        scores = zip(kept.qualities.tolist(), kept.stabilities.tolist(), strict=True)
        return [
            ObjectMask(
                mask=mask,
                box=(x0, y0, x1 + 1, y1 + 1),
                area=area,
                predicted_iou=quality,
                stability=stability,
            )
            for mask, area, (x0, y0, x1, y1), (quality, stability) in zip(
                masks, areas, boxes, scores, strict=True
            )
            if area
        ]

    def _resize_logits(
        self, logits: Tensor, size: tuple[int, ...], input_size: tuple[int, int]
    ) -> Tensor:
        """``(m, a, b)`` to ``(m, H, W)``."""
        padded = self.model.image_size if self.model.keeps_aspect else None
        rows, columns = (
            _resampling(low, padded, seen, wanted).to(logits)
            for low, seen, wanted in zip(logits.shape[1:], input_size, size, strict=True)
        )
        # Bilinear resizing is linear along each axis: (H, a) @ (m, a, b) @ (b, W) -> (m, H, W)
        return rows @ logits @ columns.T


def point_grid(points_per_side: int) -> Tensor:
    """``(points_per_side ** 2, 2)`` float64 x and y in (0, 1): the centres of equal cells."""
    margin = 1 / (2 * points_per_side)
    centres = torch.from_numpy(np.linspace(margin, 1 - margin, points_per_side))
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    # Row by row: (side, side, 2) -> (side * side, 2), x before y
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def limit_side(frames: Tensor, max_side: int) -> Tensor:
    """Shrink frames ``(n, 3, H, W)`` whose longer side has more than ``max_side`` pixels to it."""
    height, width = frames.shape[2:]
    scale = min(max_side / max(height, width), 1)
    return resize_frames(frames, max(round(height * scale), 1), max(round(width * scale), 1))


def resize_frames(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 frames ``(n, 3, H, W)`` on CPU, bilinearly and without aliasing.

    Pillow does it, as in ``segment_anything.utils.transforms``: torch's resize differs by one grey
    level in up to 2 % of the values, which moves the borders of masks.
    """
    if frames.shape[2:] == (height, width):
        return frames
    resized = [
        np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        for frame in frames.permute(0, 2, 3, 1).contiguous().numpy()  # (n, H, W, 3)
    ]
    # Pillow has the channels last: (n, H, W, 3) -> (n, 3, H, W)
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _resampling(low: int, padded: int | None, seen: int, wanted: int) -> Tensor:
    """``(wanted, low)``: what a side of a mask's logits is multiplied with.

    It is bilinear interpolation to the ``padded`` side of the network's input (None: none), of that
    the ``seen`` part, and interpolation of it to the ``wanted`` pixels, composed to one matrix.
    """
    # What resizing makes of the rows of the identity is its matrix, transposed: (1, low, low) ->
    # (1, low, padded) -> (1, low, seen) -> (1, low, wanted)
    identity = torch.eye(low)[None]
    if padded is not None:
        identity = functional.interpolate(identity, padded, mode="linear")[..., :seen]
    return functional.interpolate(identity, wanted, mode="linear")[0].T.contiguous()


def _rows(candidates: _Candidates, chosen: Tensor) -> _Candidates:
    return _Candidates(*(field[chosen] for field in candidates))


def _count(masks: Tensor) -> Tensor:
    """``(m,)`` int32; sums of small integers are many times faster than torch's ``int64`` ones."""
    return masks.sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)


def _outermost(rows: Tensor, columns: Tensor) -> Tensor:
    """``(m, 4)`` float32 x0, y0, x1, y1 of the first and last True of ``(m, W)`` and ``(m, H)``."""
    edges = []
    # argmax gives the first True; that of the flipped line is the last one.
    for line in (columns, rows):
        first = line.byte().argmax(1)
        last = line.shape[1] - 1 - line.flip(1).byte().argmax(1)
        edges.append((first, last))  # (m,) each
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], dim=1).float()
