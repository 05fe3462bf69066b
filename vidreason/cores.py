"""CPU cores of a shared machine: how many this process may use, and how many of them are free.

Two processes with a thread on each core bring each other to a stand while OpenMP's threads wait
actively: they burn the cores that the other needs. Measured on two shared AMD EPYC cores, a small
training loop made 412 to 447 rounds in 8 s alone and 11 to 13 beside a second one; waiting
passively, 342 to 345 and 231 to 257.

Nothing here imports torch: OpenMP reads its environment when it is loaded.
"""

import math
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables by which a user says how OpenMP's threads wait."""
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user, or torchrun, says how many threads there are."""
_LAUNCHED = ("LOCAL_RANK", "SLURM_LOCALID")
"""Set in each process of a launch of several: the launcher has shared out the cores."""
_SAMPLE_SECONDS = 0.25  # over which the cores are watched
_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has said how they are to wait.

    It has an effect only before torch is imported.
    """
    if not any(name in environment for name in WAIT_SETTINGS):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def available_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Cores that this process may use: its affinity, its control group's quota, SLURM's share."""
    limits = [float(len(_affinity())), _cgroup_quota()]
    per_task = environment.get("SLURM_CPUS_PER_TASK", "")
    if per_task.isdigit() and int(per_task) > 0:
        limits.append(float(per_task))
    return max(1, math.floor(min(limits)))


def free_cores(sample_seconds: float = _SAMPLE_SECONDS) -> int:
    """Cores that this process may use and that other processes leave idle now, at least 1.

    Args:
        sample_seconds: Time over which the machine's load is measured. Where the system does not
            tell it (no ``/proc/stat``), all available cores count as free.
    """
    cores = available_cores()
    if cores == 1:
        return 1
    first = _busy_seconds()
    cpu_before = time.process_time()
    time.sleep(sample_seconds)
    last = _busy_seconds()
    if first is None or last is None:
        return cores
    (busy_before, all_before), (busy_after, all_after) = first, last
    elapsed = all_after - all_before
    if elapsed <= 0:
        return cores
    by_others = max(0.0, busy_after - busy_before - (time.process_time() - cpu_before))
    num_cores = len(_affinity())
    # Half a core of other work, such as a shell or an editor, still leaves the core to us.
    idle = num_cores - math.floor(by_others / elapsed * num_cores + 0.5)
    return max(1, min(cores, idle))


def use_threads(num_threads: int | None = None) -> None:
    """Set torch's threads to ``num_threads``, or for None to the cores that are free.

    The user's environment wins, and so does a launcher of several processes: then nothing is set.
    """
    if any(name in os.environ for name in (*THREAD_SETTINGS, *_LAUNCHED)):
        return
    import torch

    torch.set_num_threads(free_cores() if num_threads is None else num_threads)


def _affinity() -> set[int]:
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cgroup_quota() -> float:
    """Cores that the control group of this process, or one above it, may use; inf for no limit."""
    quota = math.inf
    for folder in _cgroup_folders():
        quota = min(quota, _quota_v2(folder), _quota_v1(folder))
    return quota


def _cgroup_folders() -> set[Path]:
    """Folders of the groups that this process is in, up to the roots of their hierarchies."""
    folders = {_CGROUPS, _CGROUPS / "cpu"}  # in a container, its own group is the root
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _CGROUPS / "cpu" if "cpu" in controllers.split(",") else _CGROUPS
        if controllers and root == _CGROUPS:
            continue  # a hierarchy of another resource
        folder = root / path.lstrip("/")
        folders.update([folder, *(above for above in folder.parents if above.is_relative_to(root))])
    return folders


def _quota_v2(folder: Path) -> float:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # "max" is no number: there is no limit
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
    return limit / period if limit > 0 else math.inf


def _busy_seconds() -> tuple[float, float] | None:
    """Busy and total seconds of the cores of this process' affinity since the machine started."""
    try:
        lines = (_PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    names = {f"cpu{index}" for index in _affinity()}
    busy = total = 0
    for line in lines:
        name, *fields = line.split()
        if name in names:
            # user nice system idle iowait irq softirq steal; guests are in user and nice already.
            ticks = [int(field) for field in fields[:8]]
            total += sum(ticks)
            busy += sum(ticks) - ticks[3] - ticks[4]
    return (busy / tick, total / tick) if total else None
