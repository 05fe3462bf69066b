"""Latents and logits of the official V-JEPA 2 anticipation code, met by ours."""

import pytest
import torch
from baseline_weights import golden_array, golden_values, golden_weight

from vidreason.baselines.vjepa2.config import LookAhead, ModelSizes, ProbeSizes
from vidreason.baselines.vjepa2.future_latents import FutureLatents
from vidreason.baselines.vjepa2.pretraining import build_model, clip_transform, encode_visible
from vidreason.baselines.vjepa2.probe import AttentiveProbe

GOLDEN = golden_values("vjepa2")
SIZES = ModelSizes(
    **{"image_size": 16, "patch_size": 8, "num_frames": 4, "width": 32, "num_layers": 2},
    **{"num_heads": 2, "predictor_width": 24, "predictor_layers": 2, "predictor_heads": 2},
)
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def weights(module: str) -> dict[str, torch.Tensor]:
    """The tensors of an official module."""
    return {
        key: golden_weight(f"{module}.{key}", shape)
        for key, shape in GOLDEN["keys"][module].items()
    }


def layer(tensors, source: str, target: str) -> dict[str, torch.Tensor]:
    """A transformer block, under transformers' keys."""
    renamed = {}
    for kind in ("weight", "bias"):
        parts = tensors[f"{source}.attn.qkv.{kind}"].chunk(3)
        for name, part in zip(("query", "key", "value"), parts, strict=True):
            renamed[f"{target}.attention.{name}.{kind}"] = part
        renamed[f"{target}.attention.proj.{kind}"] = tensors[f"{source}.attn.proj.{kind}"]
        for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            renamed[f"{target}.{name}.{kind}"] = tensors[f"{source}.{name}.{kind}"]
    return renamed


@pytest.fixture(scope="module")
def model():
    encoder, predictor = weights("target_encoder"), weights("predictor")
    state = {
        "predictor.embeddings.mask_tokens": torch.stack(
            [predictor[f"mask_tokens.{index}"] for index in range(10)]
        )
    }
    for kind in ("weight", "bias"):
        for source, target in (
            ("patch_embed.proj", "encoder.embeddings.patch_embeddings.proj"),
            ("norm", "encoder.layernorm"),
        ):
            state[f"{target}.{kind}"] = encoder[f"{source}.{kind}"]
        for source, target in (
            ("predictor_embed", "predictor.embeddings.predictor_embeddings"),
            ("predictor_norm", "predictor.layernorm"),
            ("predictor_proj", "predictor.proj"),
        ):
            state[f"{target}.{kind}"] = predictor[f"{source}.{kind}"]
    for index in range(2):
        state |= layer(encoder, f"blocks.{index}", f"encoder.layer.{index}")
        state |= layer(predictor, f"predictor_blocks.{index}", f"predictor.layer.{index}")
    model = build_model(SIZES).eval()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def clips():
    return golden_array("video", (2, 4, 3, 16, 16), 2.0)


def test_latents_and_logits_are_the_official_ones(model, clips):
    look_ahead = LookAhead(num_frames=4, frames_per_second=8.0, num_future_frames=2)
    latents = FutureLatents(model, clip_transform(SIZES), look_ahead)
    seconds = torch.tensor(GOLDEN["anticipation_seconds"], dtype=torch.float64)
    output = latents(clips, seconds)
    assert list(output.shape) == GOLDEN["latents_shape"]
    for name, row in (
        *(("first_token", output[0, 0]), ("future_first", output[0, 8])),
        ("future_last", output[1, -1]),
    ):
        torch.testing.assert_close(row, torch.tensor(GOLDEN[name]), **CLOSE)
    assert float(output.double().abs().sum()) == pytest.approx(GOLDEN["latents_abs_sum"], rel=1e-6)
    probe = AttentiveProbe(ProbeSizes(width=32), {"verb": 3, "noun": 4, "action": 5})
    probe.load_state_dict(weights("classifier"))
    for head, logits in probe(output).items():
        torch.testing.assert_close(logits, torch.tensor(GOLDEN["logits"][head]), **CLOSE)


def test_visible_tokens_alone_are_encoded_as_officially(model, clips):
    encoded = encode_visible(model.encoder, clips, torch.tensor(GOLDEN["visible"]))
    torch.testing.assert_close(encoded[1, -1], torch.tensor(GOLDEN["masked_last"]), **CLOSE)
    assert float(encoded.double().abs().sum()) == pytest.approx(GOLDEN["masked_abs_sum"], rel=1e-6)
