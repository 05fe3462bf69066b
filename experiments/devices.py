"""Devices that ``fit`` is spread over."""

import torch

from experiments.experiment_config import ExperimentConfig


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
