"""Checks of where a run is to take place: accelerator, devices, nodes, precision, strategy."""

import os
import re
from collections.abc import Iterator

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from data_modules.global_order import accumulation
from experiments.devices import num_processes
from experiments.start_checks.start import Start, raised
from vidreason.devices import torch_device

# In the order in which Lightning looks for them: torchrun may run inside of a SLURM job.
_LAUNCHERS: tuple[type[ClusterEnvironment], ...] = (
    TorchElasticEnvironment,
    SLURMEnvironment,
    LSFEnvironment,
    MPIEnvironment,
)
_STARTED_BY_HAND = ("NODE_RANK", "GROUP_RANK")
"""Variables that Lightning reads on nodes that a user starts one by one."""


def accelerator(start: Start) -> Iterator[str]:
    """The accelerator is on this machine."""
    wanted = start.config.trainer.accelerator
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        # Lightning's "gpu" is a CUDA device or one of Apple's.
        mps = wanted == "gpu" and torch.backends.mps.is_available()
        if not mps:
            yield (
                f"trainer.accelerator is {wanted!r}, but PyTorch finds no GPU here (nvidia-smi, "
                "CUDA_VISIBLE_DEVICES); set trainer.accelerator=cpu, or auto to take what there is"
            )
    if wanted == "mps" and not torch.backends.mps.is_available():
        yield "trainer.accelerator is 'mps', but this machine has no such device; set it to cpu"


def devices(start: Start) -> Iterator[str]:
    """``trainer.devices`` is a number of devices, a list of them, or all."""
    wanted = start.config.trainer.devices
    if wanted in ("auto", -1, "-1") or _indices(wanted):
        return
    if not re.fullmatch(r"[0-9]+", str(wanted)) or int(wanted) < 1:
        yield (
            f"trainer.devices is {wanted!r}; give the number of devices of a node, at least 1, "
            "'auto' or -1 for all, or the numbers of some GPUs, as in '0,1'"
        )


def devices_here(start: Start) -> Iterator[str]:
    """The devices are on this machine."""
    settings = start.config.trainer
    if settings.accelerator == "cpu" or not torch.cuda.is_available():
        if _indices(settings.devices):
            yield f"trainer.devices is {settings.devices!r}, but there are no GPUs to choose from"
        return
    count = torch.cuda.device_count()
    numbers = _indices(settings.devices)
    if max(numbers, default=-1) >= count:
        yield (
            f"trainer.devices is {settings.devices!r}, but GPUs are numbered from 0 to {count - 1} "
            "here"
        )
    # A number of devices, not a list of them.
    elif not numbers and str(settings.devices).isdecimal() and int(settings.devices) > count:
        yield (
            f"trainer.devices is {settings.devices}, but PyTorch finds {count} here; set "
            f"trainer.devices={count}, or look at CUDA_VISIBLE_DEVICES"
        )


def launcher(start: Start) -> Iterator[str]:
    """Several nodes have been started by something, with the processes that are configured."""
    settings = start.config.trainer
    # Without a sound number of devices there is no number of processes; devices() has said so.
    if any(devices(start)):
        return
    launcher_kind = next((kind for kind in _LAUNCHERS if kind.detect()), None)
    if launcher_kind is None:
        if settings.num_nodes > 1 and not any(name in os.environ for name in _STARTED_BY_HAND):
            yield (
                f"trainer.num_nodes is {settings.num_nodes}, but nothing has started this program "
                "on several nodes, and it would wait for the others for ever: start it by srun or "
                "torchrun (experiments/slurm/README.md), or set trainer.num_nodes=1"
            )
        return
    # Lightning's own check compares with what the launcher has started.
    per_node = num_processes(start.config) // settings.num_nodes
    try:
        launcher_kind().validate_settings(per_node, settings.num_nodes)
    except (ValueError, RuntimeError) as error:
        # Lightning's messages have several lines.
        cause = " ".join(str(error).split())
        yield (
            f"trainer.devices is {settings.devices!r} and trainer.num_nodes {settings.num_nodes}, "
            f"but the launcher has started other processes ({cause})"
        )


def precision(start: Start) -> Iterator[str]:
    """The precision is one of the device's."""
    settings = start.config.trainer
    if settings.precision == "16-mixed" and settings.accelerator == "cpu":
        yield (
            "trainer.precision is 16-mixed, which CPUs do not have (Lightning would take another "
            "one); set trainer.precision=bf16-mixed, or 32-true"
        )


def strategy(start: Start) -> Iterator[str]:
    """The strategy goes with what else is configured."""
    from experiments.fit.strategies import build_strategy

    yield from raised(lambda: build_strategy(start.config))


def global_batch(start: Start) -> Iterator[str]:
    """The processes can share the global batch."""
    data = start.config.data
    # As in launcher.
    if any(devices(start)):
        return
    processes = num_processes(start.config)
    yield from raised(lambda: accumulation(data.global_batch_size, data.batch_size, processes))


def device(start: Start) -> Iterator[str]:
    """``device`` is one of this machine's."""
    yield from raised(lambda: torch_device(start.config.device))


def _indices(wanted: int | str) -> list[int]:
    """The devices of a list such as ``0,1``; empty if it is none."""
    if not isinstance(wanted, str) or not re.fullmatch(r"[0-9]+(,[0-9]+)*,?", wanted):
        return []
    # Lightning reads "2" as a number of devices, and "2," as the one GPU of that number.
    return [int(number) for number in wanted.split(",") if number] if "," in wanted else []
