"""The encoder's preprocessing: ViCLIP's own numbers, and the geometry that masks rely on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidreason.perception.object_tokens import patch_areas, pool_patches
from vidreason.video.transforms import CLIP_DEVIATION, CLIP_MEAN, FrameTransform

GOLDEN = Path(__file__).parents[1] / "assets" / "golden" / "preprocess.npz"


def golden_frames() -> torch.Tensor:
    """The formula video that the golden values belong to: 20 frames of 240 x 320, its ``rule``."""
    t, h, w, c = np.ogrid[:20, :240, :320, :3]
    video = (h + 2 * w + 37 * t + 80 * c + 64 * ((h // 8 + w // 8) % 2)) % 256
    return torch.from_numpy(video.astype(np.uint8)).permute(0, 3, 1, 2)


def test_viclip_preprocessing_equals_the_official_numbers() -> None:
    golden = np.load(GOLDEN)
    frames = golden_frames()[:: 20 // 8][:8]
    transformed = FrameTransform(size=224).apply(frames)
    # cv2 computes in fixed point and rounds to whole grey levels, 0.0175 apart here.
    difference = transformed[None, ..., 5::16, 3::16].numpy() - golden["viclip_BTCHW"]
    assert np.abs(difference).max() <= 0.013
    np.testing.assert_allclose(
        transformed.mean(dim=(0, 2, 3)).numpy(), golden["viclip_mean"], atol=3e-3
    )


def test_mm_preprocessing_equals_the_official_numbers() -> None:
    golden = np.load(GOLDEN)
    transform = FrameTransform(
        size=224,
        short_side=256,
        interpolation="antialiased-bilinear",
        mean=CLIP_MEAN,
        std=CLIP_DEVIATION,
    )
    transformed = transform.apply(golden_frames()[golden["mm_idx"]])
    # Torch's arithmetic on bytes is nearly Pillow's; measured here: equal bit by bit.
    expected = torch.from_numpy(golden["mm_CTHW"])
    torch.testing.assert_close(transformed.transpose(0, 1)[..., 5::16, 3::16], expected)
    means = transformed.mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(means, golden["mm_mean"], atol=1e-5)


def test_videomae_preprocessing_equals_the_official_numbers() -> None:
    golden = np.load(GOLDEN)
    transformed = FrameTransform(size=224, short_side=224).apply(golden_frames()[:16])
    # As for ViCLIP, cv2 rounds to whole grey levels.
    difference = transformed.transpose(0, 1)[..., 5::16, 3::16].numpy() - golden["videomae_CTHW"]
    assert np.abs(difference).max() <= 0.013
    means = transformed.mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(means, golden["videomae_mean"], atol=3e-3)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (90, 51), (33, 34), (500, 231)])
def test_antialiased_resizes_are_pillows_to_one_level(mode: str, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    transform = FrameTransform(size=32, short_side=35, interpolation=f"antialiased-{mode}")
    resized = transform.resize(frame[None])[0]
    short = min(height, width)
    new_height, new_width = int(35 * height / short), int(35 * width / short)
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(image.resize((new_width, new_height), filters[mode]))
    top, left = round((new_height - 32) / 2), round((new_width - 32) / 2)
    expected = expected[top : top + 32, left : left + 32].astype(np.float32)
    difference = np.abs(resized.permute(1, 2, 0).numpy() - expected)
    # Torch's weights have fewer bits than Pillow's: on this noise, measured over the eight cases,
    # 0.2 % to 12 % of the values are one level apart.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.15


@pytest.mark.parametrize("size", [16, 96, 224, 400])
@pytest.mark.parametrize("shape", [(240, 320), (33, 17), (1, 1), (224, 224)])
def test_squash_is_bilinear_without_antialiasing(size: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (2, 3, *shape), generator=generator, dtype=torch.uint8)
    expected = torch.nn.functional.interpolate(
        frames.float(), size=(size, size), mode="bilinear", align_corners=False
    )
    squashed = FrameTransform(size=size).resize(frames)
    torch.testing.assert_close(squashed, expected, atol=0.01, rtol=0)
    channels_last = frames.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(FrameTransform(size=size).resize(channels_last), squashed)


def test_normalisation_and_independence_of_frames() -> None:
    transform = FrameTransform(size=8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    frames = torch.zeros(2, 3, 4, 6, dtype=torch.uint8)
    frames[1] = 255
    result = transform.apply(frames)
    assert result.shape == (2, 3, 8, 8)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result[0, :, 0, 0], torch.tensor([-1.0, -1.0, 0.0]))
    torch.testing.assert_close(result[1, :, 7, 7], torch.tensor([1.0, 3.0, 1.0]))
    torch.testing.assert_close(transform.apply(frames[1:]), result[1:])


def test_patch_edges_are_where_the_patches_come_from() -> None:
    """A source that is bright in one patch only is bright in that patch of the square only."""
    transform = FrameTransform(size=32)
    height, width, patch_size = 60, 90, 8
    rows, columns = transform.patch_edges(height, width, patch_size)
    assert rows.tolist() == [0.0, 15.0, 30.0, 45.0, 60.0]
    assert columns.tolist() == [0.0, 22.5, 45.0, 67.5, 90.0]

    frames = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    frames[:, :, 15:30, 45:68] = 255  # patch row 1, column 2
    squashed = transform.resize(frames)[0, 0].reshape(4, patch_size, 4, patch_size).mean(dim=(1, 3))
    assert squashed[1, 2] > 250
    squashed[1, 2] = 0
    assert squashed.max() < 10


@pytest.mark.parametrize("interpolation", ["bilinear", "antialiased-bilinear"])
@pytest.mark.parametrize(("height", "width"), [(60, 91), (91, 60), (64, 64), (31, 200)])
def test_patch_edges_of_a_centre_crop_are_where_the_patches_come_from(
    interpolation: str, height: int, width: int
) -> None:
    """Positions are burnt into the pixels: what a patch shows lies between its edges."""
    transform = FrameTransform(size=32, short_side=36, interpolation=interpolation)
    rows, columns = transform.patch_edges(height, width, 8)
    for edges, axis, length in ((rows, 2, height), (columns, 3, width)):
        shape = [1, 1, 1, 1]
        shape[axis] = length
        ramp = torch.arange(length, dtype=torch.uint8).view(shape).expand(1, 3, height, width)
        shown = transform.resize(ramp)[0, 0]
        means = shown.mean(dim=1 if axis == 2 else 0).view(4, 8).mean(dim=1)
        # Byte i is the pixel between i and i + 1, so a patch shows its middle minus a half.
        expected = ((edges[:-1] + edges[1:]) / 2 - 0.5).float()
        torch.testing.assert_close(means, expected, atol=0.5, rtol=0)
        assert edges[0] > 0
        assert edges[-1] < length
        # The crop is in the centre, to the pixel of the resized frame that rounding leaves.
        assert abs(edges[0] + edges[-1] - length) <= length / 36 + 1e-9
    assert rows.dtype == torch.float64


def test_the_rest_of_a_crop_is_rounded_as_asked() -> None:
    # 35 pixels high, 42 wide: 3 and 10 surplus pixels; half of 3 is rounded to 2 or down to 1.
    frames = torch.arange(35, dtype=torch.uint8).view(1, 1, 35, 1).expand(1, 3, 35, 42)
    nearest = FrameTransform(size=32, short_side=35).resize(frames)[0, 0, 0, 0]
    down = FrameTransform(size=32, short_side=35, crop_rounding="down").resize(frames)[0, 0, 0, 0]
    assert (nearest, down) == (2, 1)


def test_eq_2_with_a_centre_crop_equals_the_loop_over_pixels() -> None:
    """The pixel loop: each pixel of the network's input looks up its mask pixel and its patch."""
    height, width, factor = 24, 36, 3
    transform = FrameTransform(size=48, short_side=height * factor)
    masks = torch.rand(4, height, width, generator=torch.Generator().manual_seed(0)) < 0.4
    masks[2] = False
    masks[2, :, :3] = True  # outside of the crop
    patches = torch.randn(6, 6, 5, generator=torch.Generator().manual_seed(1))
    top, left = (height * factor - 48) // 2, (width * factor - 48) // 2
    totals, counts = torch.zeros(4, 5), torch.zeros(4)
    for row in range(48):
        for column in range(48):
            shown = masks[:, (top + row) // factor, (left + column) // factor]
            totals += shown[:, None] * patches[row // 8, column // 8]
            counts += shown
    rows, columns = transform.patch_edges(height, width, 8)
    areas = patch_areas(masks, rows, columns)
    torch.testing.assert_close(areas.sum((1, 2)) * factor**2, counts)
    assert areas[2].sum() == 0
    seen = masks[[0, 1, 3]]
    pooled = pool_patches(seen, patches, rows, columns)
    torch.testing.assert_close(pooled, (totals / counts[:, None])[[0, 1, 3]])


def test_the_squash_maps_positions_linearly() -> None:
    columns = torch.arange(200, dtype=torch.uint8).expand(1, 3, 50, 200)
    squashed = FrameTransform(size=40).resize(columns)[0, 0]
    expected = (torch.arange(40) + 0.5) * 200 / 40 - 0.5
    torch.testing.assert_close(squashed, expected.expand(40, 40), atol=1e-4, rtol=0)


def test_wrong_input_is_named() -> None:
    transform = FrameTransform(size=32)
    with pytest.raises(ValueError, match=r"found torch.float32 of shape \(1, 3, 4, 4\)"):
        transform.apply(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\)"):
        transform.apply(torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="patch_size must divide size = 32, found 7"):
        transform.patch_edges(100, 100, 7)
    with pytest.raises(ValueError, match="size must be at least 1 pixel, found 0"):
        FrameTransform(size=0)
    with pytest.raises(ValueError, match="std must be above 0"):
        FrameTransform(std=(0.2, 0.0, 0.2))
    with pytest.raises(ValueError, match=r"short_side must be at least size = 224.*found 200"):
        FrameTransform(short_side=200)
