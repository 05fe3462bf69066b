import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidreason.perception.video_encoder import VideoEncoderConfig, build_video_encoder

GOLDEN = Path(__file__).parents[1] / "assets" / "golden"
TINY = {
    "name": "viclip",
    "image_size": 32,
    "patch_size": 16,
    "width": 64,
    "num_layers": 3,
    "num_heads": 4,
    "num_frames": 4,
    "output_dim": 32,
}


def golden_weights() -> dict[str, torch.Tensor]:
    """The weights rule crc32-randomstate-v1 of tests/assets/golden/README.md."""
    weights = {}
    for entry in json.loads((GOLDEN / "keys_viclip_tiny.json").read_text())["keys"]:
        state = np.random.RandomState(zlib.crc32(entry["key"].encode()) & 0xFFFFFFFF)
        noise = state.standard_normal(int(np.prod(entry["shape"]))).reshape(entry["shape"])
        value = {"norm_weight": 1 + 0.1 * noise, "matrix": 0.05 * noise, "vector": 0.02 * noise}
        weights[entry["key"]] = torch.from_numpy(value[entry["kind"]].astype(np.float32))
    return weights


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("viclip") / "viclip_tiny.safetensors"
    text_tower = {"text_encoder.ln_final.bias": torch.zeros(3), "temp": torch.tensor(1.0)}
    save_file(golden_weights() | text_tower, path)
    return path


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "viclip_tiny.npz")


@pytest.fixture(scope="module")
def golden_frames(golden):
    shape = tuple(golden["input_shape"])
    state = np.random.RandomState(int(golden["input_seed"]))
    frames = state.standard_normal(int(np.prod(shape))).reshape(shape).astype(np.float32)
    np.testing.assert_array_equal(frames.ravel()[:16], golden["input_head"])
    return torch.from_numpy(frames).transpose(1, 2)  # (B, 3, F, S, S) -> (B, F, 3, S, S)


def test_all_tokens_and_the_projection_equal_the_official_model(
    weights_path, golden, golden_frames
):
    encoder = build_video_encoder(VideoEncoderConfig(weights=str(weights_path), **TINY))
    tower = encoder.vision_encoder
    tokens = tower(golden_frames)
    # Measured: equal bit by bit. A wrong token order shows on the tokens only, not on [CLS].
    torch.testing.assert_close(tokens, torch.from_numpy(golden["tokens"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens[:, 0], torch.from_numpy(golden["cls"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        tower.project(tokens), torch.from_numpy(golden["proj"]), atol=1e-4, rtol=0
    )
    print(
        (tokens - torch.from_numpy(golden["tokens"])).abs().max(),
        (tower.project(tokens) - torch.from_numpy(golden["proj"])).abs().max(),
    )


def test_patch_tokens_are_placed_by_frame_row_and_column(weights_path):
    encoder = build_video_encoder(VideoEncoderConfig(weights=str(weights_path), **TINY))
    tokens = torch.arange(17.0)[None, :, None].expand(1, 17, 64)
    grid = encoder.vision_encoder.patch_grid(tokens)
    assert grid.shape == (1, 4, 2, 2, 64)
    for frame in range(4):
        for row in range(2):
            for column in range(2):
                token = 1 + (row * 2 + column) * 4 + frame
                assert grid[0, frame, row, column, 0] == token


def test_clips_are_encoded_independently(weights_path):
    encoder = build_video_encoder(VideoEncoderConfig(weights=str(weights_path), **TINY))
    frames = torch.randn(2, 3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = encoder(frames)
    assert together.clip_tokens.shape == (2, 3, 64)
    assert together.patch_tokens.shape == (2, 3, 4, 2, 2, 64)
    alone = encoder(frames[1:, 2:])
    torch.testing.assert_close(together.clip_tokens[1:, 2:], alone.clip_tokens)
    torch.testing.assert_close(together.patch_tokens[1:, 2:], alone.patch_tokens)


def test_training_mode_changes_nothing(weights_path):
    encoder = build_video_encoder(VideoEncoderConfig(weights=str(weights_path), **TINY))
    frames = torch.randn(1, 1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = encoder(frames).clip_tokens
    assert torch.equal(encoder.train()(frames).clip_tokens, expected)


def test_wrong_frame_counts_are_refused(weights_path):
    encoder = build_video_encoder(VideoEncoderConfig(weights=str(weights_path), **TINY))
    with pytest.raises(ValueError, match=r"\(B, 4, 3, 32, 32\).*found \(1, 5, 3, 32, 32\)"):
        encoder(torch.zeros(1, 1, 5, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("vision_encoder.proj"), "missing vision_encoder.proj"),
        (
            lambda weights: weights.update({"vision_encoder.extra": torch.zeros(1)}),
            "unexpected vision_encoder.extra",
        ),
        (
            lambda weights: weights.update({"vision_encoder.ln_pre.bias": torch.zeros(65)}),
            r"vision_encoder.ln_pre.bias has shape \(65,\) instead of \(64,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    weights = golden_weights()
    change(weights)
    path = tmp_path / "changed.safetensors"
    save_file(weights, path)
    with pytest.raises(ValueError, match=message):
        build_video_encoder(VideoEncoderConfig(weights=str(path), **TINY))


def test_unreadable_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        build_video_encoder(VideoEncoderConfig(weights=str(tmp_path / "none.safetensors"), **TINY))
    path = tmp_path / "cut.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match=r"cut.safetensors.* truncated or damaged"):
        build_video_encoder(VideoEncoderConfig(weights=str(path), **TINY))


def test_pickled_code_is_never_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": print}, path)
    with pytest.raises(ValueError, match=r"evil.pth.* asks to run \S+print"):
        build_video_encoder(VideoEncoderConfig(weights=str(path), **TINY))


def test_weights_are_never_random_by_accident():
    with pytest.raises(ValueError, match=r"video_encoder\.weights: empty"):
        build_video_encoder(VideoEncoderConfig(**TINY))


def test_random_weights_depend_on_the_seed_alone():
    def build(seed):
        return build_video_encoder(
            VideoEncoderConfig(allow_random_weights=True, seed=seed, **TINY)
        ).state_dict()

    torch.manual_seed(1)
    first = build(5)
    torch.manual_seed(2)
    state_before = torch.get_rng_state()
    second, other = build(5), build(6)
    assert torch.equal(torch.get_rng_state(), state_before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["vision_encoder.proj"], other["vision_encoder.proj"])


def test_the_default_is_viclip_b16_and_builds_on_the_meta_device():
    encoder = build_video_encoder(VideoEncoderConfig(), "meta")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 86_198_784
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
