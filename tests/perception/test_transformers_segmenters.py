import dataclasses

import pytest
import torch
import transformers

from vidreason.perception.config import SegmenterConfig
from vidreason.perception.models import build_segmenter
from vidreason.perception.weights import hash_weights

NAMES = ["sam", "sam-hq", "sam2", "sam3-tracker"]
DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_dim": 16,
    "iou_head_hidden_dim": 16,
}


def _prompts(image_size: int, patch_size: int) -> dict:
    sizes = {"image_size": image_size, "patch_size": patch_size}
    return {"hidden_size": 16, "mask_input_channels": 4} | sizes


def _sam(config_class, model_class, **decoder):
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "window_size": 0,
        "global_attn_indexes": [0],
        "output_channels": 16,
        "mlp_dim": 32,
        "num_pos_feats": 8,
    }
    config = config_class(
        vision_config=vision,
        prompt_encoder_config=_prompts(32, 8),
        mask_decoder_config=DECODER | decoder,
    )
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 32}, pad_size={"height": 32, "width": 32}
    )
    return model_class(config), processor


def _sam2():
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=16,
    )
    config = transformers.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=_prompts(64, 16),
        mask_decoder_config=DECODER,
    )
    processor = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64})
    return transformers.Sam2Model(config), processor


def _sam3_tracker():
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }
    vision = transformers.Sam3VisionConfig(
        backbone_config=backbone,
        fpn_hidden_size=16,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        scale_factors=[4.0, 2.0, 1.0],
    )
    config = transformers.Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config=_prompts(56, 14),
        mask_decoder_config=DECODER,
    )
    processor = transformers.Sam3ImageProcessor(size={"height": 56, "width": 56})
    return transformers.Sam3TrackerModel(config), processor


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Tiny random models of the real classes, saved as on the Hub."""
    built = {
        "sam": lambda: _sam(transformers.SamConfig, transformers.SamModel),
        "sam-hq": lambda: _sam(transformers.SamHQConfig, transformers.SamHQModel, vit_dim=16),
        "sam2": _sam2,
        "sam3-tracker": _sam3_tracker,
    }
    folders = {}
    for name, build in built.items():
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model, processor = build()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        folders[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    return folders


def config(name: str, weights: str, **changes) -> SegmenterConfig:
    """Everything is kept but masks without a pixel."""
    unfiltered = SegmenterConfig(
        name=name,
        weights=weights,
        points_per_side=3,
        pred_iou_threshold=-1e6,
        stability_threshold=0.0,
        box_nms_threshold=1.0,
    )
    return dataclasses.replace(unfiltered, **changes)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).byte()


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_those_of_transformers_own_pipeline(folders, name):
    model = getattr(
        transformers,
        {"sam": "SamModel", "sam-hq": "SamHQModel", "sam2": "Sam2Model"}.get(
            name, "Sam3TrackerModel"
        ),
    ).from_pretrained(folders[name])
    processor = transformers.AutoImageProcessor.from_pretrained(folders[name])
    segmenter = build_segmenter(config(name, folders[name]))
    side = segmenter.model.image_size
    height = 24 if segmenter.model.keeps_aspect else side  # so that no resize blurs the comparison
    frame = pictures(1, height, side)

    inputs = processor(images=[frame[0]], return_tensors="pt")
    cells = [(2 * cell + 1) / 6 for cell in range(3)]
    points = torch.tensor([[[[x * side, y * height]] for y in cells for x in cells]])
    with torch.no_grad():
        output = model(
            pixel_values=inputs["pixel_values"], input_points=points, multimask_output=True
        )
    sizes = [inputs["original_sizes"]]
    if "reshaped_input_sizes" in inputs:
        sizes.append(inputs["reshaped_input_sizes"])
    (masks,) = processor.post_process_masks(output.pred_masks, *sizes)
    qualities, order = output.iou_scores.flatten().sort(descending=True, stable=True)
    expected = [
        (float(quality), mask)
        for quality, mask in zip(qualities, masks.flatten(0, 1)[order], strict=True)
        if mask.any()
    ]

    (actual,) = segmenter.segment(frame)
    assert len(actual) == len(expected) > 5
    for item, (quality, mask) in zip(actual, expected, strict=True):
        assert item.predicted_iou == pytest.approx(quality, abs=1e-5)
        assert (item.mask != mask).sum() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_batching_frames_and_points_changes_nothing(folders, name):
    frames = pictures(3, 30, 44)
    batched = build_segmenter(config(name, folders[name], frames_per_batch=2))
    single = build_segmenter(config(name, folders[name], points_per_batch=4))
    actual = batched.segment(frames)
    assert len(actual) == 3
    for together, frame in zip(actual, frames, strict=True):
        (alone,) = single.segment(frame[None])
        assert len(together) == len(alone) > 0
        for first, second in zip(together, alone, strict=True):
            assert first.mask.shape == (30, 44)
            assert (first.mask != second.mask).sum() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_sizes_come_from_the_folder_on_the_meta_device(folders, name):
    model = build_segmenter(config(name, folders[name]), "meta").model
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_folder_of_another_model_is_refused(folders):
    with pytest.raises(ValueError, match=r"holds a model of type 'sam', sam2 needs one of sam2"):
        build_segmenter(config("sam2", folders["sam"]))


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"segmenter\.weights: empty; sam2 needs a folder"):
        build_segmenter(config("sam2", ""))
    with pytest.raises(ValueError, match="there is no folder"):
        build_segmenter(config("sam2", str(tmp_path / "none")))


def test_missing_tensors_are_never_drawn_at_random(folders, tmp_path):
    model = transformers.SamModel.from_pretrained(folders["sam"])
    state = model.state_dict()
    del state["mask_decoder.iou_token.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    transformers.AutoImageProcessor.from_pretrained(folders["sam"]).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"does not fit SamModel \(1 keys\): missing mask_decoder\.iou_token"
    ):
        build_segmenter(config("sam", str(tmp_path)))


def test_the_weights_hash_follows_the_folders_content(folders):
    assert len({hash_weights(folder) for folder in folders.values()}) == len(NAMES)
