"""The released B/16 sizes, on weights of the rule, against first values of the official models.

The expected numbers were computed with the official code on CPU in float32 from weights of the rule
``crc32-randomstate-v1`` and inputs of the seeds below (OpenGVLab/InternVideo at 3965eef16e2d).
"""

import pytest
import torch
from golden_weights import fill, random_frames, write_lightning_ckpt, write_official_pth

from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.models import build_video_encoder

TEXT_TOWER = {"text_encoder.ln_final.bias": torch.zeros(3), "temp": torch.tensor(1.0)}


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the encoders whose own keys are the released ones."""
    state_dict = build_video_encoder(VideoEncoderConfig(name=name), "meta").state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state_dict.items()}


def videomae_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of a pre-training file of VideoMAE-B."""
    shapes = {
        "encoder.patch_embed.proj.weight": (768, 3, 2, 16, 16),
        "encoder.patch_embed.proj.bias": (768,),
        "encoder.norm.weight": (768,),
        "encoder.norm.bias": (768,),
    }
    for number in range(12):
        for key, shape in (
            ("norm1.weight", (768,)),
            ("norm1.bias", (768,)),
            ("attn.q_bias", (768,)),
            ("attn.v_bias", (768,)),
            ("attn.qkv.weight", (2304, 768)),
            ("attn.proj.weight", (768, 768)),
            ("attn.proj.bias", (768,)),
            ("norm2.weight", (768,)),
            ("norm2.bias", (768,)),
            ("mlp.fc1.weight", (3072, 768)),
            ("mlp.fc1.bias", (3072,)),
            ("mlp.fc2.weight", (768, 3072)),
            ("mlp.fc2.bias", (768,)),
        ):
            shapes[f"encoder.blocks.{number}.{key}"] = shape
    return shapes


def build(name, path):
    return build_video_encoder(VideoEncoderConfig(name=name, weights=str(path)))


def one_clip(seed: int, num_frames: int) -> torch.Tensor:
    """The first clip of the seed's input, ``(1, F, 3, 224, 224)``."""
    frames = random_frames(seed, (1, 3, num_frames, 224, 224))
    return torch.from_numpy(frames).transpose(1, 2)


def assert_begins_with(actual: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual[0, :3], torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_viclip_b16(tmp_path):
    weights = fill(released_shapes("viclip-b16")) | TEXT_TOWER
    encoder = build("viclip-b16", write_official_pth(tmp_path / "viclip.pth", weights))
    tokens = encoder.vision_encoder(one_clip(11, 8))
    assert tokens.shape == (1, 1569, 768)
    assert_begins_with(tokens[:, 0], [0.905375, -0.545651, -0.081530])
    assert_begins_with(encoder.vision_encoder.project(tokens), [-0.209217, -0.751320, 0.336667])


@pytest.mark.slow
def test_viclip_l14_loads_a_file_of_its_size(tmp_path):
    """No official output of this size is known here: the equations are those of B/16."""
    weights = fill(released_shapes("viclip-l14"))
    encoder = build("viclip-l14", write_official_pth(tmp_path / "l14.pth", weights | TEXT_TOWER))
    state_dict = encoder.state_dict()
    assert state_dict.keys() == weights.keys()
    assert all(torch.equal(state_dict[key], weights[key]) for key in weights)


@pytest.mark.slow
def test_internvideo_mm_b16(tmp_path):
    weights = fill(released_shapes("internvideo-mm-b16"))
    encoder = build("internvideo-mm-b16", write_lightning_ckpt(tmp_path / "mm.ckpt", weights))
    features = encoder.features(one_clip(12, 8))
    assert features.tokens.shape == (1, 8, 197, 768)
    assert_begins_with(features.normalised, [-0.426439, 1.277746, -0.744662])
    assert_begins_with(features.projection, [-0.513258, -1.219063, -0.157960])


@pytest.mark.slow
def test_videomae_b16(tmp_path):
    weights = fill(videomae_shapes())
    assert len(weights) == 160
    encoder = build("videomae-b16", write_official_pth(tmp_path / "videomae.pth", weights))
    encoded = encoder(one_clip(13, 16)[None])
    assert encoded.patch_tokens.shape == (1, 1, 8, 14, 14, 768)
    assert_begins_with(encoded.clip_tokens[0], [-1.952278, 0.493305, -0.306461])
