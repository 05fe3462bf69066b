import itertools

import pytest
import torch

from vidreason.perception.object_tokens import patch_areas, pool_patches, select_objects
from vidreason.perception.segmenter import ObjectMask
from vidreason.video.transforms import FrameTransform


def patch_edges(length: int, num_patches: int) -> torch.Tensor:
    return FrameTransform(size=8 * num_patches).patch_edges(length, length, 8)[0]


def pool(masks: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    rows, columns = patch_edges(masks.shape[1], len(patches)), patches.shape[1]
    return pool_patches(masks, patches, rows, patch_edges(masks.shape[2], columns))


def mean_over_pixels(mask: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Eq. 2 as it is written: a loop over the pixels of a mask of the encoder's input size."""
    patch_height = mask.shape[0] // patches.shape[0]
    patch_width = mask.shape[1] // patches.shape[1]
    total = torch.zeros(patches.shape[2], dtype=torch.float64)
    for row, column in mask.nonzero().tolist():
        total += patches[row // patch_height, column // patch_width].double()
    return (total / mask.sum()).float()


def random_masks(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    masks = torch.rand(count, height, width, generator=generator) < 0.3
    masks[:, 0, 0] = True  # none is empty
    return masks


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(8, 12, 4, 4), (32, 32, 2, 2)])
def test_pooling_equals_the_loop_over_pixels(height, width, rows, columns):
    masks = random_masks(5, height, width)
    patches = torch.randn(rows, columns, 6, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([mean_over_pixels(mask, patches) for mask in masks])
    torch.testing.assert_close(pool(masks, patches), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(10, 7, 4, 3), (9, 16, 14, 14), (3, 2, 4, 4), (5, 5, 1, 5)],
)
def test_pooling_is_exact_where_pixels_straddle_patches(height, width, rows, columns):
    masks = random_masks(4, height, width)
    patches = torch.randn(rows, columns, 6, generator=torch.Generator().manual_seed(2))
    # On a grid in which both pixels and patches are whole, the loop over (fine) pixels is exact.
    fine = masks.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
    expected = torch.stack([mean_over_pixels(mask, patches) for mask in fine])
    torch.testing.assert_close(pool(masks, patches), expected, atol=1e-6, rtol=0)


def test_a_masks_areas_add_up_to_its_pixels():
    masks = random_masks(3, 36, 59)
    areas = patch_areas(masks, patch_edges(36, 14), patch_edges(59, 14))
    assert areas.shape == (3, 14, 14)
    torch.testing.assert_close(areas.sum((1, 2)), masks.sum((1, 2)).float(), atol=1e-3, rtol=0)


def test_a_mask_inside_one_patch_gives_that_patchs_embedding():
    patches = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 20, 40, dtype=torch.bool)
    mask[0, 12:15, 3:9] = True
    torch.testing.assert_close(pool(mask, patches)[0], patches[1, 0])


def test_no_objects_give_no_tokens():
    tokens = pool(torch.zeros(0, 9, 11, dtype=torch.bool), torch.randn(2, 2, 5))
    assert tokens.shape == (0, 5)


def object_at(x0: int, y0: int, x1: int, y1: int, stability: float = 1.0) -> ObjectMask:
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return ObjectMask(
        mask=mask,
        box=(x0, y0, x1, y1),
        area=int(mask.sum()),
        predicted_iou=0.9,
        stability=stability,
    )


def test_objects_are_ranked_by_area_times_stability():
    large, stable, shaky = (
        object_at(0, 0, 5, 5),
        object_at(0, 0, 4, 4),
        object_at(5, 0, 9, 4, stability=0.5),
    )
    chosen = select_objects([shaky, stable, large], 3, min_share=0, max_share=1)
    assert chosen == [large, stable, shaky]
    assert select_objects([shaky, stable, large], 2, min_share=0, max_share=1) == [large, stable]


def test_the_order_does_not_depend_on_the_segmenters():
    objects = [object_at(0, 0, 2, 2), object_at(4, 0, 6, 2), object_at(0, 4, 2, 6)]
    for order in itertools.permutations(objects):
        assert select_objects(order, 3, min_share=0, max_share=1) == objects


def test_background_and_specks_are_left_out():
    background, thing, speck = (
        object_at(0, 0, 10, 10),
        object_at(2, 2, 5, 5),
        object_at(9, 9, 10, 10),
    )
    assert select_objects([background, thing, speck], 9, min_share=0.02, max_share=0.9) == [thing]
    assert select_objects([background], 9, min_share=0.02, max_share=0.9) == []
