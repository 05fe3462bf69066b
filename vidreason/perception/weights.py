"""Reading weight files into modules: strictly, without unpickling anything but tensors."""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def load_weights(
    module: nn.Module,
    path: str,
    *,
    device: torch.device | str = "cpu",
    dropped_prefixes: Sequence[str] = (),
) -> None:
    """Give ``module`` the tensors of a weights file; the module may be on the ``meta`` device.

    Args:
        module: Receives the tensors themselves (``assign``), in the dtype its parameters were
            declared with.
        path: A ``.safetensors`` file, or a ``.pth``/``.pt`` file that holds a plain state dict.
        device: Where the tensors go.
        dropped_prefixes: Keys of the file that begin with one of these are not wanted.

    Raises:
        ValueError: The file is missing or unreadable, or its keys or shapes are not exactly the
            module's. The message names the first offending keys.
    """
    expected = module.state_dict()
    found = {
        key: tensor
        for key, tensor in read_state_dict(path).items()
        if not key.startswith(tuple(dropped_prefixes))
    }
    problems = [f"missing {key}" for key in expected if key not in found]
    problems += [f"unexpected {key}" for key in found if key not in expected]
    problems += [
        f"{key} has shape {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
        raise ValueError(
            f"weights {path!r} do not fit {type(module).__name__} ({len(problems)} keys): {shown}. "
            "Check that the configured sizes are those of the file"
        )
    module.load_state_dict(
        {key: found[key].to(device, expected[key].dtype) for key in expected}, assign=True
    )


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Read all tensors of a ``.safetensors`` or ``.pth`` file; nothing but tensors is unpickled."""
    if not Path(path).is_file():
        raise ValueError(f"weights: there is no file {path!r}")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"weights {path!r} cannot be read: {error}") from error
    if not isinstance(state_dict, dict) or not all(
        isinstance(value, Tensor) for value in state_dict.values()
    ):
        raise ValueError(
            f"weights {path!r}: expected a plain dictionary from names to tensors; "
            "save the model's state_dict() alone"
        )
    return state_dict


def hash_file(path: str) -> str:
    """The sha256 of a file's content, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
