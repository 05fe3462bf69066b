"""The device that a user names."""

import torch


def torch_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device is {name!r}, which PyTorch does not know; write cpu, cuda, cuda:1 or auto"
        ) from error
    if device.type == "cuda":
        # torch names devices that are not there without complaint.
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(
                f"device is {name!r}, but PyTorch finds {count} GPUs here; write cpu, or auto to "
                "take what there is"
            )
    return device
