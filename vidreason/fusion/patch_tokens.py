"""Object tokens that are patches, as a grid of frames and cells (``perceiver.segmenter: patches``).

Shapes: B batch, V visual tokens, F frames, P cells of a frame, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualBatch


class PatchTokens(NamedTuple):
    """Patches of B videos by frame and cell; clip tokens are left out."""

    features: Tensor
    """``(B, F, P, D)``, 0 where there is no patch"""
    seen: Tensor
    """``(B, F, P)`` bool: the patches that are there"""


def patch_tokens(visual: VisualBatch) -> PatchTokens:
    """Arrange the object tokens of B videos.

    A video's frames are counted from the first that is seen, and repeated frames count once. F and
    P are the largest of the batch, and at least 1.
    """
    seen = visual["mask"] & (visual["kinds"] == OBJECT_TOKEN)  # (B, V)
    # Key frames follow each other in time: a later moment than any before begins a frame.
    times = visual["spans"][..., 0].masked_fill(~seen, -1.0)
    # Latest moment of all tokens before each, which shifting by one gives; -1 before the first.
    latest = torch.nn.functional.pad(times, (1, -1), value=-1.0).cummax(dim=1).values
    frames = (times > latest).cumsum(dim=1) - 1
    cells = visual["track_ids"]
    num_frames = int(frames.amax().clamp(min=0)) + 1
    num_cells = int(cells.masked_fill(~seen, 0).amax()) + 1
    # All other tokens go to one more slot, which is cut off: (B, V) -> (B, F * P + 1)
    slots = (frames * num_cells + cells).where(seen, num_frames * num_cells)
    features = visual["features"]
    num_videos, width = len(features), features.shape[-1]
    grid = features.new_zeros(num_videos, num_frames * num_cells + 1, width)
    # Features and their presence into the same slots: (B, V, D) -> (B, F * P + 1, D)
    grid = grid.scatter(1, slots[..., None].expand_as(features), features)
    filled = seen.new_zeros(grid.shape[:2]).scatter(1, slots, seen)
    # (B, F * P + 1, D) -> (B, F, P, D)
    return PatchTokens(
        grid[:, :-1].reshape(num_videos, num_frames, num_cells, width),
        filled[:, :-1].reshape(num_videos, num_frames, num_cells),
    )
