"""A segmenter that cuts every frame into equal cells, so that its objects are patches.

Models that take the patches of single frames, such as Video-ChatGPT and Video-LLaMA, can so be
trained on visual tokens: with as many cells as the encoder has patches, each object token (eq. 2)
is one patch token, with the time of its frame. A cell is its own track.

Shapes: S cells a side, K cells.
"""

import torch
from torch import Tensor

from vidreason.perception.segmenter import ObjectMask


class PatchGridSegmenter:
    """A :class:`~vidreason.perception.segmenter.Segmenter` that looks at nothing.

    Args:
        side: Cells along each side of a frame, S.
    """

    def __init__(self, side: int) -> None:
        # A pixel a cell: masks may have fewer pixels than the frame.
        masks = torch.eye(side * side, dtype=torch.bool).view(-1, side, side)  # (K, S, S)
        self._cells = [
            ObjectMask(
                mask=mask,
                box=(cell % side, cell // side, cell % side + 1, cell // side + 1),
                area=1,
                predicted_iou=1.0,
                stability=1.0,
            )
            for cell, mask in enumerate(masks)
        ]

    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """The cells, row by row from the top left, for each of ``(n, 3, H, W)`` frames."""
        return [list(self._cells) for _ in range(len(frames))]


def cell_numbers(masks: Tensor) -> list[int]:
    """Numbers of cells, counted row by row from 0.

    Args:
        masks: ``(K, S, S)`` bool, one pixel each.
    """
    # The one pixel of each: (K, S, S) -> (K, S * S) -> (K,)
    numbers: list[int] = masks.flatten(1).int().argmax(dim=1).tolist()
    return numbers
