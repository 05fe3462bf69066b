"""The encoder's preprocessing: ViCLIP's own numbers, and the geometry that masks rely on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidreason.video.transforms import FrameTransform

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
