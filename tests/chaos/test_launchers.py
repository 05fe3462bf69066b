"""Two processes of the real launchers: what is left of them when one is killed, or told to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos_runs import PROGRESS_SECONDS, Run, assert_same_training
from forked_fit import CHECKOUT

ENDS_WITHIN_SECONDS = 60
WHOLE_RUN_SECONDS = 240
MARK = "VIDREASON_TEST_RUN"
LIGHTNING = [sys.executable, "-m", "experiments.fit"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TORCHRUN += ["--shutdown-timeout=60", "-m", "experiments.fit"]


class Launched:
    """One run folder, and the command of a launcher that works on it."""

    def __init__(self, run: Run, command: list[str]) -> None:
        self.run = run
        self.command = command

    def start(self, until_batches: int = 0) -> "subprocess.Popen[bytes]":
        """Start the launcher, and wait until its rank 0 has begun so many more batches."""
        self.run.num_starts += 1
        batches = len(self.run.batches()) + until_batches
        log = self.run.run_dir.parent / f"{self.run.run_dir.name}-{self.run.num_starts}-0.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*self.command, *self.run.arguments(2), "trainer.accelerator=cpu"],
                cwd=CHECKOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", MARK: str(self.run.run_dir)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PROGRESS_SECONDS
        while len(self.run.batches()) < batches:
            assert process.poll() is None, self.run.log()
            assert time.monotonic() < deadline, self.run.log()
            time.sleep(0.005)
        return process

    def end(
        self, process: "subprocess.Popen[bytes]", within_seconds: float = ENDS_WITHIN_SECONDS
    ) -> int:
        """The status of the launcher, behind which no process of the run may be left."""
        try:
            status = process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            raise
        deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        while alive := self.processes():
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
        return status

    def processes(self) -> dict[int, dict[str, str]]:
        """The environments of the run's processes."""
        environments = {}
        for entry in Path("/proc").iterdir():
            try:
                entries = (entry / "environ").read_text(errors="replace").split("\0")
            except (OSError, ValueError):
                continue  # not a process, or one that has just ended
            variables = dict(item.split("=", 1) for item in entries if "=" in item)
            if entry.name.isdigit() and variables.get(MARK) == str(self.run.run_dir):
                environments[int(entry.name)] = variables
        return environments

    def rank_one(self) -> int:
        (rank,) = (p for p, v in self.processes().items() if v.get("LOCAL_RANK") == "1")
        return rank


@pytest.mark.slow
def test_the_launcher_of_lightning_stops_all_ranks(whole, harmed):
    run = harmed()
    launched = Launched(run, LIGHTNING)
    process = launched.start(until_batches=5)
    process.send_signal(signal.SIGUSR1)  # to rank 0 alone
    assert launched.end(process) == 75, run.log()
    assert launched.end(launched.start(), WHOLE_RUN_SECONDS) == 0, run.log()
    assert_same_training(run, whole(2), 2)


@pytest.mark.slow
def test_the_launcher_of_lightning_leaves_no_process(harmed):
    launched = Launched(harmed(), LIGHTNING)
    process = launched.start(until_batches=5)
    os.kill(launched.rank_one(), signal.SIGKILL)
    assert launched.end(process) != 0
    process = launched.start(until_batches=5)
    process.kill()  # rank 0, which has started the other
    assert launched.end(process) == -signal.SIGKILL


@pytest.mark.slow
def test_torchrun(whole, harmed):
    run = harmed()
    launched = Launched(run, TORCHRUN)
    process = launched.start(until_batches=5)
    process.terminate()  # torchrun passes it on, and ends with a status of its own
    assert launched.end(process) != 0, run.log()
    num_batches = len(run.batches())
    process = launched.start(until_batches=5)
    assert 2 * run.resumed_from()[1] == num_batches  # saved at the very step
    os.kill(launched.rank_one(), signal.SIGKILL)
    assert launched.end(process) != 0
    assert launched.end(launched.start(), WHOLE_RUN_SECONDS) == 0, run.log()
    assert_same_training(run, whole(2), 2)
