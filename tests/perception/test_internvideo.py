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
    # Measured: 1.4e-6 at worst. A wrong token order would show on the tokens only, not on [CLS].
    torch.testing.assert_close(tokens, torch.from_numpy(golden["tokens"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens[:, 0], torch.from_numpy(golden["cls"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        tower.project(tokens), torch.from_numpy(golden["proj"]), atol=1e-4, rtol=0
    )
    print(
        (tokens - torch.from_numpy(golden["tokens"])).abs().max(),
        (tower.project(tokens) - torch.from_numpy(golden["proj"])).abs().max(),
    )
