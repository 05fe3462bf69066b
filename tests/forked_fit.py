"""Processes of ``experiments.fit`` that start at once: forks of one that has imported everything.

Importing takes several times as long as a tiny run (8 s to 2 s of CPU time, measured here), and a
run that is killed 50 times starts 60 times. The forks are real processes: they are killed by the
kernel, alone, with nothing left to say. Run as a program, this is the process that forks.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[1]
STARTS_WITHIN_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Instructions for one process."""

    arguments: list[str]
    """Arguments of ``experiments.fit``."""
    environment: dict[str, str]
    log: str
    """Where its output goes."""
    die_at_operation: int = 0
    """SIGKILL itself just before its n-th operation on a file in ``folder``; 0 for never."""
    folder: str = ""
    max_file_bytes: int = 0
    """No file may grow beyond; 0 for no limit."""


@dataclass
class Child:
    """A started process."""

    nursery: "Nursery"
    pid: int
    _status: int | None = field(default=None, repr=False)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self._status is None:
            self._status = self.nursery.ask("poll", pid=self.pid)
        return self._status

    def wait(self, timeout_seconds: float) -> int:
        deadline = time.monotonic() + timeout_seconds
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} runs after {timeout_seconds} s")
            time.sleep(0.005)
        return status

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal; to its children as well if ``group``."""
        if self.poll() is None:  # not waited for yet, so the number is still its own
            (os.killpg if group else os.kill)(self.pid, number)


class Nursery:
    """The process that forks, seen from the tests; a context manager.

    Args:
        log: Where its own output goes.
        hash_seed: Of all its forks, so that runs may differ in it.
    """

    def __init__(self, log: Path, hash_seed: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed)}
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # its input ends, and so does it
        self._log.close()

    def start(self, orders: Orders) -> Child:
        return Child(self, self.ask("start", **vars(orders)))

    def ask(self, question: str, **arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([question, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery") / "nursery.log", hash_seed=1) as nursery:
        yield nursery


def srun_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return what ``srun`` on one node gives a task, as far as Lightning reads it."""
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "fit",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_LOCALID": str(rank),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "SLURM_NTASKS": str(world_size),
        "SLURM_NTASKS_PER_NODE": str(world_size),
        "SLURM_PROCID": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve() -> None:
    """Start and watch processes as the standard input says, until it ends; then kill the rest."""
    sys.path.insert(0, str(CHECKOUT))
    from experiments.fit.run import fit
    from experiments.program import run_program

    def run(arguments: list[str]) -> int:
        return run_program(fit, program="fit", description="", argv=arguments)

    running: set[int] = set()
    for line in sys.stdin:
        question, arguments = json.loads(line)
        if question == "start":
            answer: int | None = _fork(run, Orders(**arguments))
            running.add(answer)
        else:
            pid, status = os.waitpid(arguments["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running -= {pid}
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _fork(run: Callable[[list[str]], int], orders: Orders) -> int:
    pid = os.fork()
    if pid:
        return pid
    status: object = 1
    try:
        _prepare(orders)
        status = run(orders.arguments)
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: what the parent wants done at its end is the parent's.
    os._exit(status if isinstance(status, int) else 1)


def _prepare(orders: Orders) -> None:
    os.setsid()  # what it leaves behind can be found by the session
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(orders.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(orders.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if orders.max_file_bytes:
        limit = orders.max_file_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if orders.folder:
        sys.addaudithook(_Count(orders.folder, orders.die_at_operation))


class _Count:
    """Counts a process' operations on files in a folder; kills it before a given one.

    Files that are only read do not count: nothing can be torn by that.
    """

    EVENTS = ("open", "os.rename", "os.remove", "os.symlink", "os.mkdir")

    def __init__(self, folder: str, die_at: int) -> None:
        self.folder = folder
        self.die_at = die_at
        self.num_operations = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.EVENTS or (event == "open" and arguments[1] in ("r", "rb")):
            return
        paths = [os.fspath(path) for path in arguments if isinstance(path, str | os.PathLike)]
        if not any(path.startswith(self.folder) for path in paths):
            return
        self.num_operations += 1
        if self.num_operations == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve()
