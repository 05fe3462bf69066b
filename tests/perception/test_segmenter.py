import itertools

import pytest
import torch
from safetensors.torch import save_file

from vidreason.perception.config import SegmenterConfig
from vidreason.perception.models import build_segmenter
from vidreason.perception.sam import build_sam

SMALL = {
    "name": "custom",
    "image_size": 64,
    "patch_size": 8,
    "encoder_width": 32,
    "encoder_layers": 2,
    "encoder_heads": 2,
    "window_size": 4,
    "global_attention_layers": [1],
    "prompt_dim": 16,
    "decoder_heads": 2,
    "decoder_mlp_dim": 32,
    "points_per_side": 4,
    "pred_iou_threshold": -100.0,
    "stability_threshold": 0.0,
    "box_nms_threshold": 0.99,
}


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(SegmenterConfig(allow_random_weights=True, seed=3, **SMALL))


@pytest.fixture
def frames():
    return torch.randint(
        0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_masks_are_in_the_frames_pixels_and_fit_their_boxes(segmenter, frames):
    objects = segmenter.segment(frames)
    assert len(objects) == 2
    assert all(objects)
    for each in itertools.chain(*objects):
        assert each.mask.shape == (40, 56)
        assert each.mask.dtype == torch.bool
        assert each.area == each.mask.sum() > 0
        x0, y0, x1, y1 = each.box
        assert each.mask[y0:y1, x0:x1].sum() == each.area
        for edge in (each.mask[y0], each.mask[y1 - 1], each.mask[:, x0], each.mask[:, x1 - 1]):
            assert edge.any()


def test_segmenting_twice_gives_the_same(segmenter, frames):
    first, second = (itertools.chain(*segmenter.segment(frames)) for _ in range(2))
    first, second = list(first), list(second)
    assert [each.box for each in first] == [each.box for each in second]
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(first, second, strict=True))


def test_a_frame_may_have_no_objects(segmenter, frames):
    strict = build_segmenter(
        SegmenterConfig(allow_random_weights=True, **SMALL | {"pred_iou_threshold": 100.0})
    )
    assert strict.segment(frames) == [[], []]


def test_a_large_frame_is_segmented_small():
    config = SegmenterConfig(allow_random_weights=True, seed=3, max_frame_side=64, **SMALL)
    frames = torch.full((1, 3, 90, 160), 77, dtype=torch.uint8)
    (objects,) = build_segmenter(config).segment(frames)
    assert objects
    assert all(each.mask.shape == (36, 64) for each in objects)
    assert all(each.area == each.mask.sum() for each in objects)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_load_strictly_from_both_formats(tmp_path, suffix):
    random = build_sam(SegmenterConfig(allow_random_weights=True, seed=1, **SMALL))
    path = tmp_path / f"sam{suffix}"
    if suffix == ".pth":
        torch.save(random.state_dict(), path)
    else:
        save_file(random.state_dict(), path)
    loaded = build_sam(SegmenterConfig(weights=str(path), **SMALL))
    for key, tensor in random.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    torch.testing.assert_close(loaded.pixel_mean, random.pixel_mean)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())

    with pytest.raises(ValueError, match=r"do not fit Sam .*image_encoder.neck.0.weight has shape"):
        build_sam(SegmenterConfig(weights=str(path), **SMALL | {"prompt_dim": 32}))


@pytest.mark.slow  # 375 MB to the disk and back
def test_a_file_as_released_loads_at_its_size(tmp_path):
    from segment_anything import sam_model_registry

    official = sam_model_registry["vit_b"]().state_dict()
    path = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(official, path)
    loaded = build_sam(SegmenterConfig(name="sam-vit-b", weights=str(path))).state_dict()
    assert loaded.keys() == official.keys()
    assert all(torch.equal(loaded[key], official[key]) for key in official)
    with pytest.raises(ValueError, match=r"do not fit Sam|are not those of Sam"):
        build_sam(SegmenterConfig(name="sam-vit-l", weights=str(path)))


def test_weights_are_never_random_by_accident():
    with pytest.raises(ValueError, match=r"segmenter\.weights: empty"):
        build_sam(SegmenterConfig(**SMALL))


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-vit-l", "sam-vit-h", "custom"])
def test_every_size_builds_on_the_meta_device(name):
    sam = build_sam(SegmenterConfig(name=name), "meta")
    assert all(parameter.is_meta for parameter in sam.parameters())


def test_the_default_custom_size_is_vit_b():
    shapes = [
        {key: value.shape for key, value in build_sam(config, "meta").state_dict().items()}
        for config in (SegmenterConfig(name="custom"), SegmenterConfig(name="sam-vit-b"))
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 60}, "segmenter.image_size: 60 is not a multiple of patch_size"),
        ({"prompt_dim": 20}, "segmenter.prompt_dim: 20 is not a multiple of 8"),
        (
            {"name": "edgetam"},
            r"segmenter.name is 'edgetam', which is neither .*known are sam-vit-b, ",
        ),
        ({"frames_per_batch": 0}, "segmenter.frames_per_batch is 0; it must be from 1 to 1,024"),
        ({"points_per_side": 0}, "segmenter.points_per_side is 0; it must be from 1 to 1,024"),
    ],
)
def test_impossible_sizes_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        SegmenterConfig(**SMALL | changed)
