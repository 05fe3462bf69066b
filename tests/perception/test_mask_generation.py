from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator

from vidreason.microworld import parts
from vidreason.microworld.renderer import render_frame
from vidreason.microworld.scenes import draw_rollouts
from vidreason.perception.config import SegmenterConfig
from vidreason.perception.mask_generation import GridSegmenter, limit_side, point_grid
from vidreason.perception.models import build_segmenter
from vidreason.perception.sam import PromptedSam
from vidreason.perception.sam_forward import decode_points, encode_image, upscale_masks
from vidreason.perception.segmenter import ObjectMask
from vidreason.video.reader import DIRECT

VIDEOS = Path(__file__).parents[1] / "assets" / "videos"


@pytest.fixture(scope="module")
def segmenter() -> GridSegmenter:
    """The trained Sam that is shipped with the microworld."""
    config = parts.perceiver_config().segmenter
    config.weights = str(parts.SEGMENTER_WEIGHTS)
    return build_segmenter(config)


def microworld_frames(count: int) -> torch.Tensor:
    frames = [render_frame(rollout, 3.0) for _, rollout in draw_rollouts("mask test", count)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def real_frame() -> torch.Tensor:
    index = DIRECT.index(str(VIDEOS / "av1_video.mkv"))
    return DIRECT.read_frames(index, [len(index.timestamps) // 2])


def package_masks(segmenter: GridSegmenter, frames: torch.Tensor) -> list[list[dict]]:
    """Masks of ``SamAutomaticMaskGenerator``, without those that have no pixel."""
    config = segmenter.config
    generator = SamAutomaticMaskGenerator(
        segmenter.model.sam,
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=config.pred_iou_threshold,
        stability_score_thresh=config.stability_threshold,
        stability_score_offset=config.stability_offset,
        box_nms_thresh=config.box_nms_threshold,
    )
    actual = [generator.generate(f.permute(1, 2, 0).contiguous().numpy()) for f in frames]
    return [[record for record in records if record["area"]] for records in actual]


def assert_the_same(
    actual: list[list[ObjectMask]], expected: list[list[dict]], max_pixels: int
) -> None:
    """The same masks in the same order; a logit within rounding of 0 may fall on either side."""
    assert [len(items) for items in actual] == [len(items) for items in expected]
    for item, record in zip(chain(*actual), chain(*expected), strict=True):
        different = item.mask != torch.from_numpy(record["segmentation"].copy())
        assert different.sum() <= max_pixels
        assert item.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert item.stability == pytest.approx(record["stability_score"], abs=1e-4)
        left, top, width, height = record["bbox"]  # of pixel centres
        package_box = (left, top, left + width + 1, top + height + 1)
        assert item.box == pytest.approx(package_box, abs=1)


def test_masks_are_the_packages_on_frames_that_the_model_knows(segmenter):
    frames = microworld_frames(6)
    actual = segmenter.segment(frames)
    assert sum(map(len, actual)) > 10
    assert_the_same(actual, package_masks(segmenter, frames), max_pixels=0)


@pytest.mark.parametrize("nms", [0.7, pytest.param(1.0, marks=pytest.mark.slow)])
def test_masks_are_the_packages_on_a_real_frame(segmenter, nms):
    config = parts.perceiver_config().segmenter
    config.pred_iou_threshold, config.stability_threshold = 0.2, 0.0
    config.box_nms_threshold = nms
    lenient = GridSegmenter(segmenter.model, config)
    frames = real_frame()
    actual = lenient.segment(frames)
    assert len(actual[0]) > (5 if nms < 1 else 20)
    assert_the_same(actual, package_masks(lenient, frames), max_pixels=1)


@pytest.mark.slow
def test_masks_of_a_full_size_sam_are_the_packages_on_a_real_frame(monkeypatch):
    """ViT-B with random weights; the thresholds are quantiles, so that some masks pass each."""
    config = SegmenterConfig(
        name="sam-vit-b",
        allow_random_weights=True,
        points_per_side=4,
        pred_iou_threshold=-1e6,
        stability_threshold=0.0,
        box_nms_threshold=1.0,
    )
    segmenter = build_segmenter(config)
    levels: list[tuple[torch.Tensor, ...]] = []
    encode = segmenter.model.encode

    def encode_once(pixels):
        if not levels:
            levels.append(encode(pixels))
        return levels[0]

    monkeypatch.setattr(segmenter.model, "encode", encode_once)
    frames = real_frame()
    everything = segmenter.segment(frames)[0]
    config.pred_iou_threshold = float(np.quantile([m.predicted_iou for m in everything], 0.3))
    config.stability_threshold = float(np.quantile([m.stability for m in everything], 0.3))
    actual = segmenter.segment(frames)
    assert 5 < len(actual[0]) < len(everything)
    assert_the_same(actual, package_masks(segmenter, frames), max_pixels=1)


def test_the_encoder_gives_the_packages_numbers():
    windowed = SegmenterConfig(
        name="custom",
        allow_random_weights=True,
        image_size=64,
        patch_size=8,
        encoder_width=32,
        encoder_layers=2,
        encoder_heads=2,
        window_size=3,  # does not divide the 8 patches
        global_attention_layers=[1],
        prompt_dim=16,
        decoder_heads=2,
    )
    encoder = build_segmenter(windowed).model.sam.image_encoder
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encode_image(encoder, pixels), encoder(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_the_decoder_gives_the_packages_numbers(segmenter, num_frames):
    sam = segmenter.model.sam
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(num_frames, 64, 12, 12, generator=generator)
    points = torch.rand(5, 2, generator=generator) * 96
    tokens, image, qualities = decode_points(sam, embeddings, points)
    prompts, masks = torch.meshgrid(torch.arange(len(tokens)), torch.arange(4), indexing="ij")
    logits = upscale_masks(sam.mask_decoder, tokens, image, prompts.flatten(), masks.flatten())

    sparse, dense = sam.prompt_encoder((points[:, None], torch.ones(5, 1)), None, None)
    for frame, embedding in enumerate(embeddings):
        expected_logits, expected_qualities = sam.mask_decoder.predict_masks(
            embedding[None], sam.prompt_encoder.get_dense_pe(), sparse, dense
        )
        rows = slice(5 * frame, 5 * frame + 5)
        torch.testing.assert_close(qualities[rows], expected_qualities, atol=1e-5, rtol=1e-5)
        actual_logits = logits.view(-1, 4, 48, 48)[rows]
        torch.testing.assert_close(actual_logits, expected_logits, atol=1e-4, rtol=1e-5)


def test_upscaling_some_masks_gives_the_same_as_upscaling_all(segmenter):
    sam = segmenter.model.sam
    embeddings = torch.randn(1, 64, 12, 12, generator=torch.Generator().manual_seed(0))
    tokens, image, _ = decode_points(sam, embeddings, torch.rand(6, 2) * 96)
    prompts, masks = torch.tensor([0, 3, 3, 5]), torch.tensor([1, 1, 3, 2])
    some = upscale_masks(sam.mask_decoder, tokens, image, prompts, masks)
    for row, (prompt, mask) in enumerate(zip(prompts, masks, strict=True)):
        (alone,) = upscale_masks(sam.mask_decoder, tokens, image, prompt[None], mask[None])
        torch.testing.assert_close(some[row], alone, atol=1e-4, rtol=1e-5)
    none = upscale_masks(sam.mask_decoder, tokens, image, prompts[:0], masks[:0])
    assert none.shape == (0, 48, 48)


def test_batches_do_not_change_masks(segmenter):
    frames = microworld_frames(5)
    expected = segmenter.segment(frames)
    for frames_per_batch, points_per_batch in ((1, 49), (2, 20), (5, 1000)):
        config = parts.perceiver_config().segmenter
        config.frames_per_batch, config.points_per_batch = frames_per_batch, points_per_batch
        actual = GridSegmenter(segmenter.model, config).segment(frames)
        assert [len(items) for items in actual] == [len(items) for items in expected]
        for first, second in zip(chain(*actual), chain(*expected), strict=True):
            assert (first.mask != second.mask).sum() <= 1


def test_a_4k_frame_is_segmented_at_the_largest_side_that_is_allowed(segmenter):
    small = microworld_frames(3)[2]
    large = small.repeat_interleave(17, dim=1).repeat_interleave(30, dim=2)[None]  # 2176 x 3840
    config = parts.perceiver_config().segmenter
    config.max_frame_side = 256
    (actual,) = GridSegmenter(segmenter.model, config).segment(large)
    assert actual
    assert all(item.mask.shape == (145, 256) for item in actual)
    assert limit_side(large, 3840) is large


def test_the_grid_is_the_packages(segmenter):
    from segment_anything.utils.amg import build_point_grid

    assert np.array_equal(point_grid(7).numpy(), build_point_grid(7))
    assert isinstance(segmenter.model, PromptedSam)
