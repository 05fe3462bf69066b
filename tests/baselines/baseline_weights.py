"""Weights of the baselines' golden values, which follow from a tensor's name and shape alone.

The rule is that of the values' makers, so it must not change: the outputs in
``tests/assets/golden/baselines`` were computed by the official code with these weights.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "assets" / "golden" / "baselines"


def golden_values(name: str) -> dict[str, Any]:
    """Return the content of ``tests/assets/golden/baselines/NAME.json``."""
    values: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))
    return values


def golden_array(
    name: str, shape: Sequence[int], scale: float = 1.0, offset: float = 0.0
) -> Tensor:
    """Return a float32 tensor around ``offset`` that depends on its name and shape alone.

    Args:
        name: Name of the tensor.
        shape: Its shape.
        scale: Largest distance from ``offset``.
        offset: Middle of the values.
    """
    mask = np.uint64(0xFFFFFFFF)
    count = int(np.prod(shape)) if len(shape) else 1
    # An integer hash of the flat index, seeded by the name; products wrap around in 64 bits.
    mixed = np.arange(count, dtype=np.uint64) * np.uint64(2654435761)
    mixed = (mixed + np.uint64(zlib.crc32(name.encode()))) & mask
    mixed = ((mixed ^ (mixed >> np.uint64(15))) * np.uint64(2246822519)) & mask
    mixed = mixed ^ (mixed >> np.uint64(13))
    values = (mixed.astype(np.float64) / 2**32 * 2 - 1) * scale + offset
    return torch.from_numpy(values.astype(np.float32).reshape(tuple(shape)))


def golden_weight(key: str, shape: Sequence[int]) -> Tensor:
    """Return the weight under ``key``: of a norm around 1, else scaled by its fan-in.

    Args:
        key: Official key of the weight.
        shape: Its shape.
    """
    is_norm = any(part in key for part in ("norm", "Norm", "ln_vision")) and key.endswith("weight")
    if len(shape) <= 1:
        return golden_array(key, shape, 0.1, 1.0) if is_norm else golden_array(key, shape, 0.1)
    return golden_array(key, shape, 1.5 / max(int(np.prod(shape[1:])), 1) ** 0.5)


def golden_state(shapes: dict[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the weights under all keys, from their shapes."""
    return {key: golden_weight(key, shape) for key, shape in shapes.items()}
