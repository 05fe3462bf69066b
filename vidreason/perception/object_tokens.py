"""Object tokens: the mean patch embedding under each object's mask (paper section 3.1.2, eq. 2).

Eq. 2 averages, over the pixels of a mask, the embedding of the patch that each pixel lies in.
Pixels of one patch share its embedding, so the mean is ``areas @ patches / areas.sum()`` with
``areas[k, p]`` the area that mask k covers of patch p: one matrix product.

Shapes: K objects, H x W the frame in its own pixels, h x w the patch grid, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vidreason.perception.segmenter import ObjectMask


def pool_patches(masks: Tensor, patches: Tensor) -> Tensor:
    """Eq. 2 for all objects of one frame.

    Args:
        masks: ``(K, H, W)`` bool masks, none of them empty, at the frame's own resolution; K may be
            0.
        patches: ``(h, w, D)`` patch embeddings of that frame.

    Returns:
        ``(K, D)`` object tokens.
    """
    areas = patch_areas(masks, *patches.shape[:2]).flatten(1)
    return areas @ patches.flatten(0, 1) / areas.sum(1, keepdim=True)


def patch_areas(masks: Tensor, grid_height: int, grid_width: int) -> Tensor:
    """How much of each patch each mask covers.

    The encoder sees the frame squashed onto its square input, so the patch grid spans the whole
    frame, and a patch is ``H / grid_height`` by ``W / grid_width`` of the frame's own pixels. A
    pixel on a patch border counts for each side with the part of its area that lies there; no mask
    is resampled.

    Args:
        masks: ``(K, H, W)`` bool.
        grid_height: Number of patch rows h.
        grid_width: Number of patch columns w.

    Returns:
        ``(K, h, w)`` float32 areas in pixels; each mask's areas add up to its number of pixels.
    """
    rows = _overlaps(masks.shape[1], grid_height).to(masks.device)
    columns = _overlaps(masks.shape[2], grid_width).to(masks.device)
    return rows @ masks.float() @ columns.T


def _overlaps(num_pixels: int, num_patches: int) -> Tensor:
    """Length of each pixel inside each patch along one axis: ``(num_patches, num_pixels)``."""
    patch_edges = torch.arange(num_patches + 1, dtype=torch.float64) * num_pixels / num_patches
    pixel_edges = torch.arange(num_pixels + 1, dtype=torch.float64)
    ends = torch.minimum(patch_edges[1:, None], pixel_edges[None, 1:])
    starts = torch.maximum(patch_edges[:-1, None], pixel_edges[None, :-1])
    return (ends - starts).clamp(min=0).float()


def select_objects(
    objects: Sequence[ObjectMask], limit: int, *, min_share: float, max_share: float
) -> list[ObjectMask]:
    """Choose the objects of one frame that become tokens.

    Masks that cover less than ``min_share`` of the frame are specks and those that cover more than
    ``max_share`` are background. The others are ranked by area times stability, largest first;
    equal ones by their boxes, from the top left. So the order does not depend on the segmenter's.

    Args:
        objects: The segmenter's masks on one frame.
        limit: At most this many are chosen.
        min_share: Smallest share of the frame's pixels, in [0, 1].
        max_share: Largest share of the frame's pixels, in [0, 1].

    Returns:
        The chosen objects in rank order; possibly none.
    """
    eligible = [
        found for found in objects if min_share <= found.area / found.mask.numel() <= max_share
    ]
    eligible.sort(key=lambda found: (-found.area * found.stability, found.box[1], found.box[0]))
    return eligible[:limit]
