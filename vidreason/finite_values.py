"""Finding values that are infinite or not a number, before they are used or saved as good."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


def nonfinite_names(values: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold a value that is not finite, in alphabetical order.

    Args:
        values: Tensors of any device; of one that is cut over processes (a DTensor), this rank's
            part is looked at. If all is well the host waits once for each device. What has no
            values, on the meta device, has none that are not finite.
    """
    local = {
        name: value.to_local() if hasattr(value, "to_local") else value
        for name, value in values.items()
        if value.is_floating_point() and value.device.type != "meta"
    }
    local = {name: value.detach() for name, value in local.items() if value.numel() > 0}
    # The largest magnitude of all: a NaN anywhere makes it NaN.
    if math.isfinite(get_total_norm(local.values(), math.inf)):
        return []
    return sorted(name for name, value in local.items() if not torch.isfinite(value).all())


def checkpoint_tensors(checkpoint: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The weights, averages and optimizer states of a checkpoint, by what to call them.

    What callbacks keep is left out: a best value that has not come yet is infinite.
    """
    for kind in ("state_dict", "average"):
        for name, value in checkpoint.get(kind, {}).items():
            yield name if kind == "state_dict" else f"{kind} of {name}", value
    for optimizer in checkpoint.get("optimizer_states", []):
        for name, fields in optimizer["state"].items():
            for field, value in fields.items():
                if isinstance(value, Tensor):
                    yield f"optimizer's {field} of {name}", value


def as_weights(path: str, key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor of a weights file in the dtype that a model has it in.

    Args:
        path: Of the file, for messages.
        key: The tensor's in the file.
        tensor: As the file holds it.
        dtype: Of the model's tensor. What is an integer there, such as a counter, is not looked at.

    Raises:
        ValueError: As :func:`check_weights`.
    """
    if dtype.is_floating_point:
        check_weights(path, key, tensor)
    return tensor.to(dtype)


def check_weights(path: str, key: str, tensor: Tensor) -> None:
    """Make sure that a tensor of a weights file holds finite real numbers.

    Raises:
        ValueError: It holds integers, as quantized weights do, truth values or complex numbers, or
            values that are infinite or not a number.
    """
    if not tensor.is_floating_point():
        raise no_floats(path, key, str(tensor.dtype).removeprefix("torch."))
    # Floats of eight bits have no norm.
    values = tensor.float() if tensor.itemsize == 1 else tensor
    if names := nonfinite_names({key: values}):
        raise ValueError(
            f"weights {path!r}: {describe_nonfinite(names)}; the file is damaged, or its training "
            "has diverged"
        )


def no_floats(path: str, key: str, kind: str) -> ValueError:
    """Return the error for a tensor of a weights file that holds no floats.

    Args:
        path: Of the file or folder.
        key: The tensor's.
        kind: Type of its numbers, by any name.
    """
    return ValueError(
        f"weights {path!r}: {key} holds numbers of type {kind}, which are no weights; take the "
        "file whose weights are floats, not quantized"
    )


def describe_nonfinite(names: list[str]) -> str:
    """A clause for a message: how many tensors are not finite, and the first of them."""
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{rest} hold values that are infinite or not a number"
