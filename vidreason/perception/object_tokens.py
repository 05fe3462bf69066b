"""Object tokens: the mean patch embedding under each object's mask (paper section 3.1.2, eq. 2).

Eq. 2 averages, over the pixels of a mask, the embedding of the patch that each pixel lies in.
Pixels of one patch share its embedding, so the mean is ``areas @ patches / areas.sum()`` with
``areas[k, p]`` the area that mask k covers of patch p: one matrix product.

Shapes: K objects, H x W the masks' resolution, h x w the patch grid, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vidreason.perception.segmenter import ObjectMask


def pool_patches(masks: Tensor, patches: Tensor, row_edges: Tensor, column_edges: Tensor) -> Tensor:
    """Eq. 2 for all objects of one frame.

    Args:
        masks: ``(K, H, W)`` bool masks, each with an area in some patch; K may be 0.
        patches: ``(h, w, D)`` patch embeddings of that frame.
        row_edges: ``(h + 1,)`` where each row of patches begins and ends, in pixels of the masks:
            the geometric transform of the encoder,
            :meth:`~vidreason.video.transforms.FrameTransform.patch_edges`.
        column_edges: ``(w + 1,)`` the same for the columns.

    Returns:
        ``(K, D)`` object tokens.
    """
    areas = patch_areas(masks, row_edges, column_edges).flatten(1)  # (K, h * w)
    # (K, h * w) @ (h * w, D) -> (K, D)
    return areas @ patches.flatten(0, 1) / areas.sum(1, keepdim=True)


def patch_areas(masks: Tensor, row_edges: Tensor, column_edges: Tensor) -> Tensor:
    """Area of each patch that each mask covers.

    A pixel on a patch border counts for each side with the part of its area that lies there. Masks
    are not resampled: a patch is a rectangle of the frame, so areas are a product over the two
    axes.

    Args:
        masks: ``(K, H, W)`` bool.
        row_edges: ``(h + 1,)`` edges of the patch rows in pixels, as in :func:`pool_patches`.
        column_edges: ``(w + 1,)`` edges of the patch columns.

    Returns:
        ``(K, h, w)`` float32 areas in pixels; each mask's areas add up to its number of pixels that
        are not cut off.
    """
    rows = _overlaps(masks.shape[1], row_edges).to(masks.device)  # (h, H)
    columns = _overlaps(masks.shape[2], column_edges).to(masks.device)  # (w, W)
    # (h, H) @ (K, H, W) @ (W, w) -> (K, h, w)
    return rows @ masks.float() @ columns.T


def _overlaps(num_pixels: int, edges: Tensor) -> Tensor:
    """Length of each pixel inside each patch along one axis: ``(num_patches, num_pixels)``."""
    pixel_edges = torch.arange(num_pixels + 1, dtype=torch.float64)
    # What two intervals share begins at the later start and ends at the earlier end; negative if
    # they are apart. Patches are rows, pixels columns.
    ends = torch.minimum(edges[1:, None].double(), pixel_edges[None, 1:])
    starts = torch.maximum(edges[:-1, None].double(), pixel_edges[None, :-1])
    return (ends - starts).clamp(min=0).float()


def visible_objects(
    objects: Sequence[ObjectMask], row_edges: Tensor, column_edges: Tensor
) -> list[ObjectMask]:
    """Leave out objects without any area in a patch: those that the encoder's crop cuts off.

    Args:
        objects: The segmenter's masks on one frame.
        row_edges: ``(h + 1,)`` edges of the patch rows in pixels of the masks.
        column_edges: ``(w + 1,)`` edges of the patch columns.
    """
    if not objects:
        return []
    masks = torch.stack([each.mask for each in objects])
    top, left = math.floor(row_edges[0]), math.floor(column_edges[0])
    bottom, right = math.ceil(row_edges[-1]), math.ceil(column_edges[-1])
    # (objects, H, W) -> (objects, pixels): any pixel within the crop
    visible = masks[:, top:bottom, left:right].flatten(1).any(1).tolist()
    return [each for each, is_visible in zip(objects, visible, strict=True) if is_visible]


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
    eligible = [each for each in objects if min_share <= each.area / each.mask.numel() <= max_share]
    eligible.sort(key=lambda each: (-each.area * each.stability, each.box[1], each.box[0]))
    return eligible[:limit]
