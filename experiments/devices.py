"""Devices of a run: the one that a program names, and those that ``fit`` is spread over."""

import torch

from experiments.experiment_config import ExperimentConfig


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
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(
                f"device is {name!r}, but PyTorch finds {count} GPUs here; write cpu, or auto to "
                "take what there is"
            )
    return device


def num_processes(config: ExperimentConfig) -> int:
    """Devices over all nodes; ``auto`` is what this machine has."""
    # A number, a list such as "0,1", or auto.
    devices = config.trainer.devices
    if isinstance(devices, str) and not devices.isdecimal():
        # Lightning's auto is one process on a CPU.
        devices = max(torch.cuda.device_count() if trains_on_gpu(config) else 1, 1)
    return int(devices) * config.trainer.num_nodes


def trains_on_gpu(config: ExperimentConfig) -> bool:
    """Tell whether ``fit`` runs on a GPU; ``auto`` means one unless the precision is a CPU's."""
    accelerator = config.trainer.accelerator
    if accelerator == "auto":
        return torch.cuda.is_available() or config.trainer.precision != "32-true"
    return accelerator != "cpu"
