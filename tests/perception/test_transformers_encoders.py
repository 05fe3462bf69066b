"""V-JEPA 2 and image encoders of transformers: equal to the model and its own processor."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2VideoProcessor,
)

from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.models import build_video_encoder, video_encoder_sizes
from vidreason.video.reader import DIRECT

VIDEO = Path(__file__).parents[1] / "assets" / "videos" / "av1_video.mkv"
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = VIT | {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
TEXT |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "intermediate_size": 32}
SQUARE = {"height": 32, "width": 32}


def sharpen(model):
    """Weights large enough that every token differs, drawn from a seed."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.1 * noise
    return model.eval()


def clip_folder(folder, half=False):
    if half:
        model = sharpen(CLIPVisionModel(CLIPVisionConfig(**TOWER)))
        model.save_pretrained(folder)
    else:
        whole = sharpen(
            CLIPModel(CLIPConfig(vision_config=TOWER, text_config=TEXT, projection_dim=8))
        )
        whole.save_pretrained(folder)
        model = CLIPVisionModel.from_pretrained(folder).eval()
    CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE).save_pretrained(folder)
    return model


def clip_vision_folder(folder):
    return clip_folder(folder, half=True)


def siglip_folder(folder):
    SiglipModel(SiglipConfig(vision_config=TOWER, text_config=TEXT)).save_pretrained(folder)
    model = sharpen(SiglipVisionModel.from_pretrained(folder))
    model.save_pretrained(folder)
    SiglipImageProcessor(size=SQUARE).save_pretrained(folder)
    return model


def dinov2_folder(folder):
    # Trained at 42 pixels, preprocessed to 28: the model resizes its position embeddings.
    model = sharpen(Dinov2Model(Dinov2Config(**VIT, image_size=42, patch_size=14)))
    model.save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 33}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return model


def registers_folder(folder):
    config = Dinov2WithRegistersConfig(**VIT, image_size=32, patch_size=8, num_register_tokens=3)
    model = sharpen(Dinov2WithRegistersForImageClassification(config))
    model.save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)
    return model.dinov2_with_registers


def vit_folder(folder):
    # Saved with a classifier and without a pooler, as google/vit-base-patch16-224 is.
    model = sharpen(ViTForImageClassification(ViTConfig(**TOWER)))
    model.save_pretrained(folder)
    ViTImageProcessor(size=SQUARE).save_pretrained(folder)
    return model.vit


IMAGE_MODELS = {
    "clip": (clip_folder, 1),
    "clip vision half": (clip_vision_folder, 1),
    "siglip": (siglip_folder, 0),
    "dinov2": (dinov2_folder, 1),
    "dinov2 with registers": (registers_folder, 4),
    "vit": (vit_folder, 1),
}


@pytest.fixture(scope="module")
def frames():
    """Three frames ``(3, 3, H, W)`` of a real video."""
    index = DIRECT.index(str(VIDEO))
    return DIRECT.read_frames(index, [0, 4, 8])


def processor_of(folder):
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder)


def build(folder, name="image", **changes):
    return build_video_encoder(VideoEncoderConfig(name=name, weights=str(folder), **changes))


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_encoders_equal_the_model_and_its_own_processor(tmp_path, frames, name):
    make, num_prefix_tokens = IMAGE_MODELS[name]
    model = make(tmp_path)
    pixels = processor_of(tmp_path)(list(frames), return_tensors="pt")["pixel_values"]
    encoder = build(tmp_path, num_frames=3)
    transformed = encoder.transform.apply(frames)
    # The processor normalises in one multiplication less; measured: at most 2.4e-7 apart.
    torch.testing.assert_close(transformed, pixels, atol=2e-6, rtol=0)

    interpolate = {"interpolate_pos_encoding": True} if name == "vit" else {}
    with torch.no_grad():
        output = model(pixel_values=pixels, **interpolate)
    encoded = encoder(transformed[None, None])
    tokens = output.last_hidden_state
    if name.startswith("clip"):
        tokens = getattr(model, "vision_model", model).post_layernorm(tokens)
    side = encoder.image_size // encoder.patch_size
    assert tokens.shape[1] == num_prefix_tokens + side * side
    patches = tokens[:, num_prefix_tokens:].unflatten(1, (side, side))
    torch.testing.assert_close(encoded.patch_tokens[0, 0], patches, atol=1e-4, rtol=1e-4)
    frame_tokens = output.pooler_output if name == "siglip" else tokens[:, 0]
    expected = frame_tokens.mean(dim=0)
    torch.testing.assert_close(encoded.clip_tokens[0, 0], expected, atol=1e-4, rtol=1e-4)
    if name.startswith("clip"):
        torch.testing.assert_close(output.pooler_output.mean(dim=0), expected)


def test_the_sizes_are_those_of_the_folder(tmp_path):
    registers_folder(tmp_path)
    sizes = video_encoder_sizes(VideoEncoderConfig(name="image", weights=str(tmp_path)))
    assert (sizes.width, sizes.image_size, sizes.patch_size) == (32, 32, 8)
    assert (sizes.num_frames, sizes.tubelet_size, sizes.num_layers) == (8, 1, 2)


def test_frames_are_encoded_by_themselves(tmp_path):
    clip_folder(tmp_path)
    encoder = build(tmp_path)
    frames = torch.randn(2, 2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together, alone = encoder(frames), encoder(frames[1:, 1:, 2:3])
    assert together.clip_tokens.shape == (2, 2, 32)
    assert together.patch_tokens.shape == (2, 2, 4, 4, 4, 32)
    torch.testing.assert_close(together.patch_tokens[1, 1, 2], alone.patch_tokens[0, 0, 0])
    each = torch.stack([encoder(frames[:, :, f : f + 1]).clip_tokens for f in range(4)])
    torch.testing.assert_close(together.clip_tokens, each.mean(dim=0))


def test_training_mode_changes_nothing(tmp_path):
    model = Dinov2Model(Dinov2Config(**VIT, image_size=28, patch_size=14, drop_path_rate=0.9))
    model.save_pretrained(tmp_path)
    BitImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(tmp_path)
    encoder = build(tmp_path)
    frames = torch.randn(1, 1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = encoder(frames).clip_tokens
    assert torch.equal(encoder.train()(frames).clip_tokens, expected)


def vjepa2_folder(folder, **changes):
    config = VJEPA2Config(
        **VIT | {"hidden_size": 48},
        **{"crop_size": 32, "patch_size": 8, "frames_per_clip": 16, "num_pooler_layers": 1},
        **{"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1},
        **changes,
    )
    model = sharpen(VJEPA2ForVideoClassification(config))
    model.save_pretrained(folder)
    VJEPA2VideoProcessor(crop_size=SQUARE).save_pretrained(folder)
    return model.vjepa2


def test_vjepa2_equals_the_model_and_its_own_processor(tmp_path, frames):
    model = vjepa2_folder(tmp_path)
    clip = frames[[0, 1, 2, 1]]
    processor = VJEPA2VideoProcessor.from_pretrained(tmp_path)
    pixels = processor([clip], return_tensors="pt")["pixel_values_videos"]
    encoder = build(tmp_path, "vjepa2", num_frames=4)
    transformed = encoder.transform.apply(clip)
    torch.testing.assert_close(transformed[None], pixels, atol=2e-6, rtol=0)
    encoded = encoder(transformed[None, None].repeat(2, 1, 1, 1, 1, 1))
    assert encoder.tubelet_size == 2
    assert encoded.patch_tokens.shape == (2, 1, 2, 4, 4, 48)
    with torch.no_grad():
        tokens = model(pixels, skip_predictor=True).last_hidden_state[0]
    torch.testing.assert_close(encoded.patch_tokens[1, 0].flatten(0, 2), tokens)
    torch.testing.assert_close(encoded.clip_tokens[1, 0], tokens.mean(dim=0))
    names = [name for name, _ in encoder.named_parameters()]
    assert not any("predictor" in name or "pooler" in name for name in names)


def test_bfloat16_and_the_meta_device(tmp_path):
    clip_folder(tmp_path)
    rounded = build(tmp_path, dtype="bfloat16", num_frames=2)
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    frames = torch.randn(1, 1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert {tokens.dtype for tokens in rounded(frames)} == {torch.float32}
    config = VideoEncoderConfig(name="image", weights=str(tmp_path))
    empty = build_video_encoder(config, "meta")
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    assert not any(p.requires_grad for p in rounded.parameters())


def change_weights(folder, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.layer.1.norm2.bias"), r"missing encoder\.layer\.1\.norm2\.bias"),
        (lambda w: w.update({"encoder.more": torch.zeros(1)}), r"unexpected encoder\.more"),
        (
            lambda w: w.update({"layernorm.bias": torch.zeros(7)}),
            r"video_encoder\.weights: .*layernorm\.bias|ignore_mismatched_sizes",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    dinov2_folder(tmp_path)
    change_weights(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        build(tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    dinov2_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors.*truncated or damaged"):
        build(tmp_path)


def test_models_that_give_no_token_a_patch_are_refused(tmp_path):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="'resnet', which is not an image encoder"):
        build(tmp_path)
    with pytest.raises(ValueError, match="'resnet', not 'vjepa2'"):
        build(tmp_path, "vjepa2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_center_crop": False}, "only a squash to a square"),
        ({"resample": 0}, "with resample 0"),
        ({"do_normalize": False}, "do_normalize False"),
        ({"crop_size": {"height": 30, "width": 32}}, "only a squash"),
    ],
)
def test_preprocessing_that_masks_cannot_follow_is_refused(tmp_path, changes, message):
    clip_folder(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        build(tmp_path)


def test_a_folder_is_needed():
    with pytest.raises(ValueError, match=r"video_encoder\.weights: empty, but 'image' needs"):
        build_video_encoder(VideoEncoderConfig(name="image"))
