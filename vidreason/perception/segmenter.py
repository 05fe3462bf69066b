"""Object masks on key frames (section 3.1.2): the protocol of a segmenter.

A promptable model is asked about a grid of points. The Segment Anything Model is in
:mod:`~vidreason.perception.sam`, models of transformers are in
:mod:`~vidreason.perception.transformers_segmenters`; their answers become masks in
:mod:`~vidreason.perception.mask_generation`.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectMask:
    """One object on one frame, in pixels of the frame as it was segmented.

    Those are the frame's own pixels, unless its longer side has more than ``max_frame_side``.
    """

    mask: Tensor
    """``(h, w)`` bool, on the segmenter's device."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels; the mask lies within ``[y0:y1, x0:x1]``."""
    area: int
    """Number of pixels of the mask."""
    predicted_iou: float
    """The quality that the segmenter predicts for its mask."""
    stability: float
    """Overlap of the mask with itself under a higher and a lower cut-off, in [0, 1]."""


class Segmenter(Protocol):
    """Finds objects on frames, without being told what to look for."""

    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """Masks on uint8 RGB frames ``(n, 3, H, W)`` on CPU, a list for each frame.

        Masks of one frame have one size; they may overlap, and there may be none.
        """
        ...
