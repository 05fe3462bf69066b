"""A segmenter without weights: connected regions of another colour than the ground."""

from torch import Tensor
from torch.nn import functional

from vidreason.perception.added_models import AddedSegmenter
from vidreason.perception.segmenter import ObjectMask

_MIN_DIFFERENCE = 40
"""Between a pixel and the ground, in levels of 255, in the channel that differs most."""
_MIN_PIXELS = 12


class ColourRegions(AddedSegmenter):
    """The ground is the median colour of a frame; each region that touches itself is an object."""

    version = 1

    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """Return the regions of each frame."""
        return [self._regions(frame) for frame in frames]

    def _regions(self, frame: Tensor) -> list[ObjectMask]:
        pixels = frame[None].float()
        scale = self.config.max_frame_side / max(frame.shape[-2:])
        if scale < 1:
            pixels = functional.interpolate(pixels, scale_factor=scale, mode="area")
        ground = pixels.flatten(2).median(-1).values[..., None, None]
        # (1, 3, h, w) -> (h, w)
        differs = ((pixels - ground).abs().amax(1) >= _MIN_DIFFERENCE)[0]
        labels = _labels(differs)
        numbers = sorted(set(labels.flatten().tolist()) - {0.0})
        masks = [labels == number for number in numbers]
        return [_object(mask) for mask in masks if mask.sum() >= _MIN_PIXELS]


def _labels(inside: Tensor) -> Tensor:
    """Give the pixels of each region one number; 0 is outside of all."""
    labels = inside.double() * (1 + inside.new_ones(inside.numel()).cumsum(0).view_as(inside))
    while True:
        # The largest number spreads to its neighbours until all of a region have it.
        spread = functional.max_pool2d(labels[None], 3, stride=1, padding=1)[0] * inside
        if spread.equal(labels):
            return labels
        labels = spread


def _object(mask: Tensor) -> ObjectMask:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return ObjectMask(mask=mask, box=box, area=int(mask.sum()), predicted_iou=1.0, stability=1.0)
