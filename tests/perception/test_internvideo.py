import numpy as np
import pytest
import torch
from golden_weights import (
    GOLDEN,
    TINY,
    distance,
    golden_frames,
    rule_weights,
    write_official_pth,
    write_safetensors,
    write_shards,
)

from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.models import build_video_encoder

TINY_VICLIP = TINY["viclip"]


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("viclip") / "viclip_tiny.safetensors"
    text_tower = {"text_encoder.ln_final.bias": torch.zeros(3), "temp": torch.tensor(1.0)}
    return str(write_safetensors(path, rule_weights("viclip_tiny") | text_tower))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "viclip_tiny.npz")


def build(path, **changes):
    return build_video_encoder(VideoEncoderConfig(weights=str(path), **TINY_VICLIP | changes))


@pytest.fixture(scope="module")
def encoder(weights_path):
    return build(weights_path)


def test_all_tokens_and_the_projection_equal_the_official_model(encoder, golden):
    tower = encoder.vision_encoder
    tokens = tower(golden_frames(golden))
    # Measured: equal bit by bit. A wrong token order shows on the tokens only, not on [CLS].
    assert distance(tokens, golden["tokens"]) < 1e-4
    assert distance(tokens[:, 0], golden["cls"]) < 1e-4
    assert distance(tower.project(tokens), golden["proj"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ViCLIP-B-16-hf", write_shards),
        ("ViCLIP-B_InternVid-FLT-10M.pth", write_official_pth),
    ],
)
def test_every_released_format_gives_the_same(tmp_path, weights_path, golden, name, write):
    text_tower = {"text_encoder.ln_final.bias": torch.zeros(3), "temp": torch.tensor(1.0)}
    encoder = build(write(tmp_path / name, rule_weights("viclip_tiny") | text_tower))
    tokens = encoder.vision_encoder(golden_frames(golden))
    assert distance(tokens, golden["tokens"]) < 1e-4


def test_patch_tokens_are_placed_by_frame_row_and_column(encoder):
    tokens = torch.arange(17.0)[None, :, None].expand(1, 17, 64)
    grid = encoder.vision_encoder.patch_grid(tokens)
    assert grid.shape == (1, 4, 2, 2, 64)
    for frame in range(4):
        for row in range(2):
            for column in range(2):
                token = 1 + (row * 2 + column) * 4 + frame
                assert grid[0, frame, row, column, 0] == token


def test_clips_are_encoded_independently(encoder):
    frames = torch.randn(2, 3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = encoder(frames)
    assert together.clip_tokens.shape == (2, 3, 64)
    assert together.patch_tokens.shape == (2, 3, 4, 2, 2, 64)
    alone = encoder(frames[1:, 2:])
    torch.testing.assert_close(together.clip_tokens[1:, 2:], alone.clip_tokens)
    torch.testing.assert_close(together.patch_tokens[1:, 2:], alone.patch_tokens)


def test_training_mode_changes_nothing(encoder):
    frames = torch.randn(1, 1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = encoder(frames).clip_tokens
    assert torch.equal(encoder.train()(frames).clip_tokens, expected)


def test_wrong_frame_counts_are_refused(encoder):
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
        (
            lambda weights: weights.update({"tower.proj": torch.zeros(64, 32)}),
            r"unexpected tower\.proj",
        ),
        (
            lambda weights: weights.update(
                {"vision_encoder.positional_embedding": torch.zeros(5, 65)}
            ),
            r"positional_embedding has shape \(5, 65\) instead of \(5, 64\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    weights = rule_weights("viclip_tiny")
    change(weights)
    with pytest.raises(ValueError, match=message):
        build(write_safetensors(tmp_path / "changed.safetensors", weights))


def test_further_keys_can_be_ignored_by_name(tmp_path, weights_path):
    weights = rule_weights("viclip_tiny") | {"queue.frames": torch.zeros(2)}
    path = write_safetensors(tmp_path / "more.safetensors", weights)
    with pytest.raises(ValueError, match=r"unexpected queue\.frames"):
        build(path)
    assert build(path, ignored_keys=["queue."]).width == 64


def test_more_frames_get_the_embeddings_in_between(weights_path, golden):
    longer = build(weights_path, num_frames=8).state_dict()
    given = rule_weights("viclip_tiny")["vision_encoder.temporal_positional_embedding"]
    table = longer["vision_encoder.temporal_positional_embedding"]
    assert table.shape == (1, 8, 64)
    # Linear without aligned corners: place i of 8 is (i + 0.5) / 2 - 0.5 of the 4 given.
    torch.testing.assert_close(table[0, 3], 0.75 * given[0, 1] + 0.25 * given[0, 2])
    torch.testing.assert_close(table[0, 0], given[0, 0])


def test_fewer_frames_get_the_first_embeddings_and_one_gets_their_mean(weights_path):
    given = rule_weights("viclip_tiny")["vision_encoder.temporal_positional_embedding"]
    key = "vision_encoder.temporal_positional_embedding"
    assert torch.equal(build(weights_path, num_frames=3).state_dict()[key], given[:, :3])
    one = build(weights_path, num_frames=1).state_dict()[key]
    torch.testing.assert_close(one, given.mean(dim=1, keepdim=True))


def test_another_resolution_gets_a_resized_grid_and_the_same_cls(weights_path):
    key = "vision_encoder.positional_embedding"
    given = rule_weights("viclip_tiny")[key]
    larger = build(weights_path, image_size=64)
    table = larger.state_dict()[key]
    assert table.shape == (17, 64)
    assert torch.equal(table[0], given[0])
    expected = torch.nn.functional.interpolate(
        given[1:].view(1, 2, 2, 64).permute(0, 3, 1, 2), size=(4, 4), mode="bicubic"
    )
    torch.testing.assert_close(table[1:], expected[0].flatten(1).T)
    encoded = larger(torch.randn(1, 1, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert encoded.patch_tokens.shape == (1, 1, 4, 4, 4, 64)


def test_weights_are_never_random_by_accident():
    with pytest.raises(ValueError, match=r"video_encoder\.weights: empty"):
        build_video_encoder(VideoEncoderConfig(**TINY_VICLIP))


def test_random_weights_depend_on_the_seed_alone():
    def state(seed):
        return build_video_encoder(
            VideoEncoderConfig(allow_random_weights=True, seed=seed, **TINY_VICLIP)
        ).state_dict()

    torch.manual_seed(1)
    first = state(5)
    torch.manual_seed(2)
    state_before = torch.get_rng_state()
    second, other = state(5), state(6)
    assert torch.equal(torch.get_rng_state(), state_before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["vision_encoder.proj"], other["vision_encoder.proj"])


def test_the_default_is_viclip_b16_and_builds_on_the_meta_device():
    encoder = build_video_encoder(VideoEncoderConfig(), "meta")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 86_198_784
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_viclip_l14_has_the_official_sizes():
    encoder = build_video_encoder(VideoEncoderConfig(name="viclip-l14"), "meta")
    assert (encoder.width, encoder.patch_size, encoder.image_size) == (1024, 14, 224)
    # CLIP ViT-L/14's published 303,966,208 in its vision half and projection (1024 x 768), and the
    # embedding of 8 frames; a 3-d kernel of depth 1 has as many weights as the 2-d one.
    assert sum(p.numel() for p in encoder.parameters()) == 303_966_208 + 8 * 1024


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_weights_give_float32_tokens(name):
    config = {"allow_random_weights": True, **TINY[name]}
    exact = build_video_encoder(VideoEncoderConfig(**config))
    rounded = build_video_encoder(VideoEncoderConfig(dtype="bfloat16", **config))
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    shape = (1, 2, exact.num_frames, 3, 32, 32)
    frames = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected, actual = exact(frames), rounded(frames)
    for tokens, others in zip(actual, expected, strict=True):
        assert tokens.dtype == torch.float32
        # 8 bits of mantissa; measured: 0.012 of the largest value at most.
        assert (tokens - others).abs().max() < 0.05 * others.abs().max()
