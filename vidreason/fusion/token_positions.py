"""Kind, time, box, shape and motion of a visual token, as a vector to add to it.

Cross-attention does not see the order of its keys: with bare ``[Z_global; Z_obj]`` the first clip
and the last are interchangeable, and "before" cannot be told from "after". Nor does it compare two
keys: how fast an object moves is a difference of two of its tokens, which each query would have to
find first.

Shapes: B batch, V visual tokens, D width.
"""

import math

import torch
from torch import Tensor, nn

from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualBatch

_SECONDS_FREQUENCIES = 12
"""Periods of 0.5, 1, 2, ... 1024 seconds: from a blink to a long video."""
_SHARE_FREQUENCIES = 6
"""Periods of 2, 1, 1/2, ... 1/16 of the video or of the frame."""
_USUAL_SIZES = (0.25, 0.25, 0.75)
"""Width and height of an object as shares of the frame, and its share of its box."""
_NUM_SIZES = len(_USUAL_SIZES)
_VELOCITY_FREQUENCIES = 4
"""Periods of 2, 1, 1/2 and 1/4 of the frame's width or height a second."""
_USUAL_SPEED = 0.25
"""Speed of an edge, as a share of the frame a second."""
# edges with their waves, and if they are known
_NUM_MOTIONS = 4 * (1 + 2 * _VELOCITY_FREQUENCIES) + 1


class TokenPositions(nn.Module):
    """The sum of an embedding of kind and time and, for objects, of box, shape and motion.

    Times are the span's start and end in seconds and as a share of the duration; boxes are their
    four edges and the mask's area as shares of the frame. Each number becomes sines and cosines of
    several periods, and a linear layer makes a vector of them. The shape is the mask's width,
    height and fill, see :func:`mask_shape`, and goes through a linear layer as it is. So does the
    motion, see :func:`box_motion`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(2, width)
        self.time = nn.Linear(2 * (2 * _SECONDS_FREQUENCIES + 2 * _SHARE_FREQUENCIES), width)
        self.box = nn.Linear(5 * 2 * _SHARE_FREQUENCIES, width)
        self.shape = nn.Linear(2 * _NUM_SIZES, width)
        self.motion = nn.Linear(_NUM_MOTIONS, width)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Return the position vectors, shape ``(B, V, width)``."""
        kinds, spans = visual["kinds"], visual["spans"].float()  # (B, V), (B, V, 2)
        durations = visual["durations"].float().clamp(min=1e-3)[:, None, None]  # (B, 1, 1) seconds
        # Start and end in seconds and as shares of the duration: (B, V, 2) -> (B, V, waves)
        time = torch.cat(
            [
                _waves(spans, longest_period=1024.0, num_frequencies=_SECONDS_FREQUENCIES),
                _waves(
                    spans / durations,
                    longest_period=2.0,
                    num_frequencies=_SHARE_FREQUENCIES,
                ),
            ],
            dim=-1,
        )
        # Four edges and the area: (B, V, 5) -> (B, V, waves)
        geometry = torch.cat([visual["boxes"], visual["areas"][..., None]], dim=-1).float()
        box = _waves(geometry, longest_period=2.0, num_frequencies=_SHARE_FREQUENCIES)
        shape = mask_shape(visual["boxes"].float(), visual["areas"].float())
        motion = box_motion(visual)
        dtype = self.kind.weight.dtype
        # Clip tokens have a box, but no object in it.
        is_object = (kinds == OBJECT_TOKEN)[..., None]
        of_object = (
            self.box(box.to(dtype)) + self.shape(shape.to(dtype)) + self.motion(motion.to(dtype))
        )
        positions: Tensor = self.kind(kinds) + self.time(time.to(dtype)) + of_object * is_object
        return positions


def mask_shape(boxes: Tensor, areas: Tensor) -> Tensor:
    """Width, height and fill of each mask, and their squares, each of the order of 1.

    The fill is the mask's share of its box: .77 for a circle, .93 for a square, .61 for a triangle
    (measured on the microworld). As a quotient of edges and area it would have to be learnt.

    Args:
        boxes: ``(B, V, 4)`` float32 x0, y0, x1, y1 as shares of the frame.
        areas: ``(B, V)`` float32 shares of the frame; the fill of an empty box is 0.

    Returns:
        ``(B, V, 6)`` float32.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)  # (B, V, 2)
    box_areas = sides.prod(dim=-1, keepdim=True)  # (B, V, 1)
    fills = (areas[..., None] / box_areas).clamp(max=1).where(box_areas > 0, 0.0)
    sizes = torch.cat([sides, fills], dim=-1)  # (B, V, 3)
    # Objects are about a quarter of the frame wide and fill about three quarters of their box.
    # A fixed scale: statistics of one corpus would be wrong for the next.
    sizes = 4 * (sizes - sizes.new_tensor(_USUAL_SIZES))
    # Squares, so that a linear layer tells the usual from the extreme on either side: (B, V, 6)
    return torch.cat([sizes, sizes.square()], dim=-1)


def box_motion(visual: VisualBatch) -> Tensor:
    """How fast the edges of each object's box have moved since its track was seen before.

    An edge that the frame's border cuts off stands still while the opposite one moves, so all four
    are told. Where the track has not been seen before, all is 0, and so is the last number, which
    is 1 elsewhere.

    Args:
        visual: Padded visual tokens of B videos. Only tokens of the mask count as seen.

    Returns:
        ``(B, V, 37)`` float32: velocities of four edges, in quarters of the frame a second, their
        sines and cosines, and whether they are known.
    """
    times, boxes = visual["spans"][..., 0].float(), visual["boxes"].float()  # (B, V), (B, V, 4)
    seen = visual["mask"] & (visual["kinds"] == OBJECT_TOKEN)
    tracks = visual["track_ids"]
    # Seconds since each other token of the same track, infinite where there is none: (B, V, V)
    same = (tracks[:, :, None] == tracks[:, None, :]) & seen[:, :, None] & seen[:, None, :]
    elapsed = times[:, :, None] - times[:, None, :]
    elapsed = elapsed.where(same & (elapsed > 0), float("inf"))
    since, before = elapsed.min(dim=2)  # (B, V)
    known = since.isfinite()[..., None]  # (B, V, 1)
    # Boxes of the tokens before: (B, V) indices -> (B, V, 4)
    boxes_before = boxes.gather(1, before[..., None].expand(-1, -1, 4))
    velocities = ((boxes - boxes_before) / since[..., None]).where(known, 0.0)  # a second
    waves = _waves(velocities, longest_period=2.0, num_frequencies=_VELOCITY_FREQUENCIES) * known
    # 4 velocities, 4 * 2 * 4 sines and cosines, and whether they are known: 37
    return torch.cat([velocities / _USUAL_SPEED, waves, known.float()], dim=-1)


def _waves(values: Tensor, *, longest_period: float, num_frequencies: int) -> Tensor:
    """Sines and cosines of each value, periods halving: ``(..., C)`` to ``(..., 2CF)``, float32.

    The frequencies are made anew at each call: as a buffer they would lose their digits when the
    module is moved to bfloat16, and their values when it is built on the meta device.
    """
    # Each period is half of the one before: (..., C) -> (..., C, F)
    octaves = torch.arange(num_frequencies, device=values.device, dtype=torch.float32)
    angles = values[..., None] * (2 * math.pi / longest_period * 2**octaves)
    # (..., C, 2 F) -> (..., 2 C F)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
