"""Synthetic weight files: the released key lists, filled by rule crc32-randomstate-v1.

The rule and the golden values are described in tests/assets/golden/README.md.
"""

import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "assets" / "golden"
TINY_VIT = {"image_size": 32, "patch_size": 16, "width": 64, "num_heads": 4}
TINY = {
    "viclip": TINY_VIT | {"name": "viclip", "num_layers": 3, "num_frames": 4, "output_dim": 32},
    "mm": TINY_VIT
    | {"name": "internvideo-mm", "num_layers": 4, "num_frames": 4}
    | {"output_dim": 32, "num_global_layers": 2},
    "videomae": TINY_VIT | {"name": "videomae", "num_layers": 3, "num_frames": 16},
}
"""Fields of VideoEncoderConfig at the size of the tiny golden values."""


def rule_weights(name: str) -> dict[str, torch.Tensor]:
    """The weights of ``keys_<name>.json``."""
    entries = json.loads((GOLDEN / f"keys_{name}.json").read_text())["keys"]
    return fill({entry["key"]: entry["shape"] for entry in entries}, entries)


def fill(shapes: dict[str, list[int]], entries=()) -> dict[str, torch.Tensor]:
    """Fill tensors by the rule; what kind a tensor is follows from its name unless listed."""
    kinds = {entry["key"]: entry["kind"] for entry in entries}
    weights = {}
    for key, shape in shapes.items():
        state = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
        noise = state.standard_normal(int(np.prod(shape))).reshape(tuple(shape))
        kind = kinds.get(key) or kind_of(key, shape)
        value = {"norm_weight": 1 + 0.1 * noise, "matrix": 0.05 * noise}.get(kind, 0.02 * noise)
        weights[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return weights


def kind_of(key: str, shape) -> str:
    """The rule's kinds, as far as the encoders' parameters go."""
    words = key.split(".")
    if words[-1] == "weight" and any(part in words[-2] for part in ("ln_", "norm")):
        return "norm_weight"
    embedding = "embedding" in key or "temporal_cls_token" in key
    return "matrix" if len(shape) >= 2 and not embedding else "vector"


def golden_frames(golden) -> torch.Tensor:
    """The input of golden values, as ``(B, F, 3, S, S)``."""
    frames = random_frames(int(golden["input_seed"]), tuple(golden["input_shape"]))
    np.testing.assert_array_equal(frames.ravel()[:16], golden["input_head"])
    return torch.from_numpy(frames).transpose(1, 2)


def random_frames(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal, in the order batch, channel, frame, row, column."""
    noise = np.random.RandomState(seed).standard_normal(int(np.prod(shape)))
    return noise.reshape(shape).astype(np.float32)


def distance(actual: torch.Tensor, expected: np.ndarray) -> float:
    """The largest difference; the shapes must be equal."""
    assert tuple(actual.shape) == expected.shape
    return float((actual - torch.from_numpy(expected)).abs().max())


def write_safetensors(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file(weights, path)
    return path


def write_shards(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A Hugging Face folder of two shards and their index."""
    path.mkdir()
    keys = list(weights)
    shard_of = {}
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, path / name)
        shard_of |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": shard_of}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def write_official_pth(path: Path, weights: dict[str, torch.Tensor], entry: str = "model") -> Path:
    """Save as the official scripts do: with an optimizer and an object of a foreign class."""
    easydict = types.ModuleType("easydict")

    class EasyDict(dict):
        pass

    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    easydict.EasyDict = EasyDict
    config = EasyDict(lr=1e-4, nested=EasyDict(names=["a", "b"]))
    config.attribute = {1, 2}
    momentum = {"state": {0: {"exp_avg": torch.ones(7)}}, "param_groups": [{"lr": 1e-4}]}
    content = {entry: weights, "optimizer": momentum, "config": config, "epoch": 9, "scaler": None}
    sys.modules["easydict"] = easydict
    try:
        torch.save(content, path)
    finally:
        del sys.modules["easydict"]
    return path


def write_lightning_ckpt(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A Lightning checkpoint with hyper-parameters, and a decoder beside the model."""
    decoder = {"caption_decoder.ln.weight": torch.ones(3)}
    content = {
        "state_dict": weights | decoder,
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "1.6.4",
        "hyper_parameters": types.SimpleNamespace(learning_rate=1e-4),
        "callbacks": {},
    }
    torch.save(content, path)
    return path
