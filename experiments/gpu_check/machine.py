"""The machine, its packages, and what its chip can do at all: the ceilings of all other numbers."""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

import torch

from experiments.gpu_check.setting import GIB, Setting
from vidreason.cores import available_cores

PACKAGES = (
    *("torch", "torchvision", "transformers", "lightning", "peft", "tokenizers", "numpy", "av"),
    *("datasets", "bitsandbytes", "deepspeed", "liger-kernel", "triton"),
)
_ROUNDS = 5  # of which the median counts


def measure(setting: Setting) -> None:
    """Record hardware and versions, the rate of bf16 matrix products, and that of copies."""
    record, device = setting.record, setting.device
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        # The first numbers of a check stand in the table of all: the others are for the list below.
        record("GPU", properties.name)
        record("bf16 matrix product", matrix_rate(device, 8192) / 1e12, "TFLOP/s")
        record(
            "copy",
            # Source and target together take at most a quarter of the memory.
            copy_rate(device, min(4 * GIB, properties.total_memory // 8)) / 1e12,
            "TB/s read and written",
        )
        record("GPU memory", properties.total_memory / GIB, "GiB")
        record("compute capability", f"{properties.major}.{properties.minor}")
        record("multiprocessors", properties.multi_processor_count)
        record("GPUs", torch.cuda.device_count())
        record("CUDA of torch", str(torch.version.cuda))
        record("driver", _driver())
        record("bf16 supported", str(torch.cuda.is_bf16_supported()))
    else:
        # A rehearsal shows that numbers come, not how large they are: small sizes will do.
        record("bf16 matrix product", matrix_rate(device, 256) / 1e12, "TFLOP/s")
        record("copy", copy_rate(device, GIB // 64) / 1e12, "TB/s read and written")
    record("system", platform.platform())
    record("Python", platform.python_version())
    record("cores", available_cores())
    record("memory", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, "GiB")
    for package in PACKAGES:
        record(package, _version(package))


def matrix_rate(device: torch.device, side: int) -> float:
    """Floating-point operations a second of a product of random bf16 ``(side, side)`` matrices.

    Random, because a chip that is limited by its power multiplies zeros faster.
    """
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    # No memory is allocated while time is measured.
    output = torch.empty_like(left)
    seconds = seconds_of(lambda: torch.matmul(left, right, out=output), device, repeats=10)
    # A multiplication and an addition for each of side^3 terms.
    return 2 * side**3 / seconds


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes a second, read and written, of a copy of ``size`` bytes on the device."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device, repeats=10)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of ``work``: the median over rounds of ``repeats`` calls, after one that warms up."""

    def one_round() -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        # A round ends with an empty queue, so that the next one begins with one.
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / repeats

    one_round()
    return statistics.median(one_round() for _ in range(_ROUNDS))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no nvidia-smi here"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    return " ".join((done.stdout or done.stderr).split())
