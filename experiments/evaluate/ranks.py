"""Several processes that share a program's work: started by torchrun, by srun, or from here."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning import Fabric
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from experiments.experiment_config import ExperimentConfig
from vidreason.devices import torch_device

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""Longest wait for other ranks, whose shares may take longer. One that crashed does not keep
it waiting: the connection breaks."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work."""

    rank: int
    world_size: int
    device: torch.device
    parent: int = field(default_factory=os.getppid)

    @property
    def is_first(self) -> bool:
        """Tell whether this process does what is done once, and talks."""
        return self.rank == 0

    def on_first(self, work: Callable[[], T]) -> T:
        """When all ranks have come here: do ``work`` on the first; all get the result.

        Raises:
            Exception: On the first, what ``work`` raised; the others then end quietly.
        """
        if self.world_size == 1:
            return work()
        torch.distributed.barrier()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome = [work(), None]
            except Exception as error:
                outcome = [None, error]
        # The others learn that there was an error, and not which: only the first one speaks of it.
        sent = [outcome[0], outcome[1] is not None]
        torch.distributed.broadcast_object_list(sent)
        if outcome[1] is not None:
            raise outcome[1]
        if sent[1]:
            # With 0: Lightning's launcher would kill the first for any other status, unheard.
            raise SystemExit(0)
        result: T = sent[0]
        return result

    def end_if_orphaned(self) -> None:
        """End this process if the one that started it is gone: nobody waits for its work."""
        if self.world_size > 1 and os.getppid() != self.parent:
            raise SystemExit(f"rank {self.rank}: the process that started this one is gone")


@contextmanager
def started_ranks(config: ExperimentConfig) -> Iterator[Ranks]:
    """The ranks that a launcher has started, or else ``trainer.devices`` of them on this machine.

    They talk by gloo, on the host.

    Raises:
        ValueError: ``trainer.devices`` is no number of processes.
    """
    device = torch_device(config.device)
    # torchrun says how many processes each node has, srun how many all nodes have together.
    if TorchElasticEnvironment.detect():
        num_devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // num_devices
    elif SLURMEnvironment.detect():
        num_nodes = int(os.environ["SLURM_NNODES"])
        num_devices = int(os.environ["SLURM_NTASKS"]) // num_nodes
    else:
        num_nodes, num_devices = 1, _num_devices(config.trainer.devices, device)
    if num_devices * num_nodes == 1:
        yield Ranks(0, 1, device)
        return
    fabric = Fabric(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=num_devices,
        num_nodes=num_nodes,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=_PATIENCE),
    )
    fabric.launch()
    try:
        yield Ranks(fabric.global_rank, fabric.world_size, fabric.device)
    finally:
        torch.distributed.destroy_process_group()


def _num_devices(devices: int | str, device: torch.device) -> int:
    if device.index is not None:  # one device, such as cuda:1
        return 1
    if devices in ("auto", "-1", -1):
        return torch.cuda.device_count() if device.type == "cuda" else 1
    try:
        return int(devices)
    except ValueError as error:
        raise ValueError(
            f"trainer.devices is {devices!r}; this program takes a number of processes, or auto "
            "(CUDA_VISIBLE_DEVICES says which devices)"
        ) from error
