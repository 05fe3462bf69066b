"""The look of one object of the microworld: a small network that names colour, shape and bars.

It sees the crop around a mask of the world's segmenter, as a program's model for pictures does.
It is trained on pictures of the training split, whose simulator says what each mask is of; at test
time nothing but pixels is read.

Shapes: N crops, things are the six colours, the wall, the screen and anything else.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from vidreason.microworld.pretraining import minimise
from vidreason.microworld.renderer import render_bars, render_frame, render_masks
from vidreason.microworld.simulation import COLORS, SHAPES, VIDEO_SECONDS, Rollout
from vidreason.perception.segmenter import ObjectMask, Segmenter

THINGS = (*COLORS, "wall", "screen", "other")
MAX_SHARE = 0.5
"""Masks of a larger share of the picture are the floor: no object."""
MARGIN_SHARE = 1 / 64
"""Margin around a mask that the crop has, as a share of the picture's longer side: that of
:class:`~vidreason.baselines.viper.program_api.ImagePatch`."""

_SIDE = 16  # pixels of the crop that the network sees
_WIDTH = 64  # hidden units
_LEAST_OVERLAP = 0.5  # intersection over union of a mask with what it is called
_NO_SHAPE = -1
_NOISE = 4.0  # grey levels; videos are compressed


class LookHead(nn.Module):
    """Two layers over the pixels of a crop and its two sides."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * _SIDE * _SIDE + 2, _WIDTH)
        self.things = nn.Linear(_WIDTH, len(THINGS))
        self.shapes = nn.Linear(_WIDTH, len(SHAPES))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of :data:`THINGS` and of the shapes.

        Args:
            crops: ``(N, 770)`` float32, rows of :func:`described`.

        Returns:
            ``(N, 9)`` and ``(N, 3)``.
        """
        hidden = torch.relu(self.hidden(crops))
        return self.things(hidden), self.shapes(hidden)


def described(crop: Tensor, side: int) -> Tensor:
    """Return what the network sees of a crop.

    Args:
        crop: ``(3, h, w)`` uint8 RGB.
        side: Longer side of the whole picture in pixels.

    Returns:
        ``(770,)`` float32: 16 x 16 pixels from -1 to 1, and the crop's height and width.
    """
    # (3, h, w) -> (1, 3, 16, 16)
    pixels = interpolate(crop[None].float(), (_SIDE, _SIDE), mode="bilinear", antialias=True)
    sides = torch.tensor([crop.shape[1] / side, crop.shape[2] / side])
    return torch.cat([(pixels / 127.5 - 1).flatten(), sides])


def object_masks(segmenter: Segmenter, frames: Tensor) -> list[list[ObjectMask]]:
    """Return the masks on frames ``(n, 3, H, W)`` uint8 that may be of an object, by frame."""
    most = MAX_SHARE * frames.shape[-2] * frames.shape[-1]
    return [[one for one in masks if one.area <= most] for masks in segmenter.segment(frames)]


def crop_around(frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Cut a box with its margin out of a frame ``(3, H, W)``."""
    height, width = frame.shape[1:]
    margin = round(max(height, width) * MARGIN_SHARE)
    left, top, right, bottom = box
    return frame[:, max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]


class _Crops(NamedTuple):
    crops: Tensor
    """``(N, 770)`` float32."""
    things: Tensor
    """``(N,)`` int64."""
    shapes: Tensor
    """``(N,)`` int64; -1 where there is none."""


def train_look_head(
    segmenter: Segmenter,
    rollouts: Sequence[Rollout],
    *,
    frames_per_rollout: int = 3,
    steps: int = 600,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    report_every: int = 100,
) -> Iterator[tuple[int, dict[str, float], LookHead]]:
    """Train a head on the masks of rendered pictures; yields ``(step, losses, head)`` now and then.

    Args:
        segmenter: Whose masks it looks at.
        rollouts: Of the training split.
        frames_per_rollout: Pictures of each, at random times.
        steps: Optimizer steps.
        batch_size: Masks a step.
        learning_rate: The highest.
        seed: Of pictures, weights and batches.
        report_every: Steps between two reports.

    Raises:
        ValueError: The segmenter masks no object.
    """
    torch.manual_seed(seed)
    data = _labelled_crops(segmenter, rollouts, frames_per_rollout, random.Random(seed))
    head = LookHead()
    for step, losses in minimise(
        head.parameters(),
        lambda _: (_losses(head, data, batch_size) for _ in count()),
        {"thing": 1.0, "shape": 1.0},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.02,
        report_every=report_every,
    ):
        yield step, losses, head


def _losses(head: LookHead, data: _Crops, batch_size: int) -> dict[str, Tensor]:
    rows = torch.randint(len(data.crops), (batch_size,))
    crops = data.crops[rows]
    noise = torch.randn_like(crops) * (_NOISE / 127.5)
    noise[:, -2:] = 0  # the sides
    things, shapes = head(crops + noise)
    # A batch without a body has no shape to learn.
    has_shape = data.shapes[rows] != _NO_SHAPE
    shape_loss = cross_entropy(
        shapes, data.shapes[rows], ignore_index=_NO_SHAPE, reduction="sum"
    ) / has_shape.sum().clamp(min=1)
    return {"thing": cross_entropy(things, data.things[rows]), "shape": shape_loss}


def _labelled_crops(
    segmenter: Segmenter,
    rollouts: Sequence[Rollout],
    frames_per_rollout: int,
    generator: random.Random,
) -> _Crops:
    crops, things, shapes = [], [], []
    for rollout in rollouts:
        times = [generator.uniform(0, VIDEO_SECONDS) for _ in range(frames_per_rollout)]
        pictures = np.stack([render_frame(rollout, time) for time in times])
        frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)  # (n, H, W, 3) -> (n, 3, H, W)
        for frame, time, masks in zip(frames, times, object_masks(segmenter, frames), strict=True):
            truth = {**render_masks(rollout, time), **render_bars(rollout)}
            for one in masks:
                crops.append(described(crop_around(frame, one.box), max(frame.shape[1:])))
                thing = _called(one, truth)
                things.append(THINGS.index(thing))
                is_body = thing in COLORS
                shapes.append(SHAPES.index(rollout.body(thing).shape) if is_body else _NO_SHAPE)
    if not crops:
        raise ValueError("the segmenter masks no object of the world; name its trained weights")
    return _Crops(torch.stack(crops), torch.tensor(things), torch.tensor(shapes))


def _called(one: ObjectMask, truth: dict[str, np.ndarray]) -> str:
    mask = one.mask.numpy()
    # Intersection over union with each thing of the truth.
    overlaps = {
        name: float((mask & pixels).sum() / (mask | pixels).sum()) for name, pixels in truth.items()
    }
    best = max(overlaps, key=lambda name: overlaps[name], default="other")
    return best if overlaps.get(best, 0.0) > _LEAST_OVERLAP else "other"
