import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from callbacks.run_record import RECORD_FILE, recorded_threads
from vidreason import cores


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of an invented system of 8 cores, in no group; its files are for the tests to write."""
    for name in ("proc/self", "cgroup/cpu"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(cores, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_affinity", lambda: set(range(8)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    return tmp_path


def load_of(
    system: Path, monkeypatch: pytest.MonkeyPatch, busy: float, used_here: float = 0.0
) -> None:
    """Let ``busy`` of the 8 cores work in each sample, ``used_here`` of them for this process."""
    tick = os.sysconf("SC_CLK_TCK")
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 100.0  # long enough that ticks do not round
        lines = [f"cpu {10**9} 0 0 0 0 0 0 0 0 0"]  # the sum of all is not read
        for core in range(10):  # the last two are not ours
            share = min(1.0, max(0.0, busy - core)) if core < 8 else 1.0
            work = round(share * now * tick)
            lines.append(f"cpu{core} {work} 0 0 {round(now * tick) - work} 0 0 0 0 0 0")
        (system / "proc/stat").write_text("\n".join(lines))

    sleep(0)
    monkeypatch.setattr(cores.time, "sleep", sleep)
    monkeypatch.setattr(cores.time, "process_time", lambda: used_here * now)


@pytest.mark.parametrize(
    ("busy", "used_here", "free"),
    [(0, 0, 8), (0.4, 0, 8), (1, 0, 7), (2.6, 0, 5), (8, 0, 1), (3, 3, 8), (3, 1, 6)],
)
def test_free_cores_are_those_that_others_leave_idle(
    system: Path, monkeypatch: pytest.MonkeyPatch, busy: float, used_here: float, free: int
) -> None:
    load_of(system, monkeypatch, busy, used_here)
    assert cores.free_cores() == free


def test_a_quota_limits_what_the_machine_has(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_of(system, monkeypatch, 4)
    (system / "cgroup/cpu.max").write_text("300000 100000\n")
    assert (cores.available_cores(), cores.free_cores()) == (3, 3)
    (system / "cgroup/cpu.max").write_text("50000 100000\n")  # half a core
    assert cores.available_cores() == 1


@pytest.mark.parametrize(
    ("group", "file", "quota"),
    [
        ("0::/user/job", "user/job/cpu.max", "200000 100000"),
        ("0::/user/job", "user/cpu.max", "200000 100000"),  # a limit on the group above
        ("4:cpu,cpuacct:/job", "cpu/job/cpu.cfs_quota_us", "200000"),
    ],
)
def test_the_limit_of_any_group_above_counts(
    system: Path, group: str, file: str, quota: str
) -> None:
    (system / "proc/self/cgroup").write_text(f"9:memory:/elsewhere\n{group}\n")
    limit = system / "cgroup" / file
    limit.parent.mkdir(parents=True, exist_ok=True)
    limit.write_text(quota)
    if limit.name == "cpu.cfs_quota_us":
        limit.with_name("cpu.cfs_period_us").write_text("100000")
    assert cores.available_cores() == 2


@pytest.mark.parametrize("text", ["max 100000", "", "no number", "-1 100000 7"])
def test_no_quota_is_no_limit(system: Path, text: str) -> None:
    (system / "cgroup/cpu.max").write_text(text)
    (system / "cgroup/cpu/cpu.cfs_quota_us").write_text("-1")
    (system / "cgroup/cpu/cpu.cfs_period_us").write_text("100000")
    assert cores.available_cores() == 8


def test_slurms_share_is_a_limit(system: Path) -> None:
    assert cores.available_cores({"SLURM_CPUS_PER_TASK": "4"}) == 4
    assert cores.available_cores({"SLURM_CPUS_PER_TASK": "64"}) == 8


def test_all_cores_are_free_where_the_load_is_not_told(system: Path) -> None:
    assert cores.free_cores(0.0) == 8


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*cores.THREAD_SETTINGS, "LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_torch_gets_the_threads_that_are_free(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_of(system, monkeypatch, 6)
    cores.use_threads()
    assert torch.get_num_threads() == 2
    cores.use_threads(3)
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cores.use_threads()
    assert torch.get_num_threads() == 3, "the user's environment wins"


def test_a_resumed_run_keeps_its_threads(system: Path, tmp_path: Path) -> None:
    assert recorded_threads(tmp_path) is None
    for threads, expected in ((2, 2), (9, None)):  # there are 8 cores
        (tmp_path / RECORD_FILE).write_text(f'{{"starts": [{{"threads": {threads}}}]}}')
        assert recorded_threads(tmp_path) == expected


@pytest.mark.parametrize(
    ("chosen", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, None)],
)
def test_the_users_way_to_wait_wins(chosen: dict[str, str], policy: str | None) -> None:
    environment = dict(chosen)
    cores.wait_passively(environment)
    assert environment.get("OMP_WAIT_POLICY") == policy


def test_programs_wait_passively_before_torch_is_there() -> None:
    code = (
        "import sys, os, experiments; assert 'torch' not in sys.modules; "
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in cores.WAIT_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "PASSIVE"
