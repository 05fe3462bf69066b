"""``kill -9`` in the middle of stage 2, at random steps: the run ends as if nothing had happened.

Real processes, each with a hash seed of its own, so that nothing may depend on the order of a set.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments.metrics_log import read_metrics
from vidreason.training.checkpoint import newest_checkpoint

NUM_STEPS = 16
NUM_KILLS = 3
KILLED_AT = sorted(random.Random(36).sample(range(3, NUM_STEPS - 1), NUM_KILLS))
TIMEOUT_SECONDS = 240
CHECKOUT = Path(__file__).parents[2]


class Run:
    """One run folder and the processes that work on it."""

    def __init__(self, config: Path, run_dir: Path) -> None:
        self.config = config
        self.run_dir = run_dir
        self.num_starts = 0

    def start(self) -> "subprocess.Popen[str]":
        self.num_starts += 1
        command = [sys.executable, "-m", "experiments.fit", "--config", str(self.config)]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": str(self.num_starts),
        }
        with (self.run_dir.parent / f"{self.run_dir.name}-{self.num_starts}.log").open("w") as log:
            return subprocess.Popen(
                [*command, f"run_dir={self.run_dir}"],
                cwd=CHECKOUT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def log(self) -> str:
        return (self.run_dir.parent / f"{self.run_dir.name}-{self.num_starts}.log").read_text()

    def batches(self) -> list[dict]:
        """The consumed micro-batches in the order in which they were consumed, repeats included."""
        path = self.run_dir / "samples-rank0.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_at(run: Run, process: "subprocess.Popen[str]", step: int) -> None:
    """SIGKILL the process as soon as it works on ``step``."""
    already = len(run.batches())
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not any(batch["step"] >= step for batch in run.batches()[already:]):
        assert process.poll() is None, f"ended before step {step}:\n{run.log()}"
        assert time.monotonic() < deadline, f"did not reach step {step}:\n{run.log()}"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def finish(run: Run, process: "subprocess.Popen[str]") -> None:
    assert process.wait(TIMEOUT_SECONDS) == 0, run.log()


@pytest.fixture(scope="module")
def runs(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same experiment uninterrupted, and killed three times and continued each time."""
    folder = tmp_path_factory.mktemp("kill")
    whole = Run(tiny_experiment, folder / "whole")
    killed = Run(tiny_experiment, folder / "killed")
    undisturbed = whole.start()
    for step in KILLED_AT:
        kill_at(killed, killed.start(), step)
    finish(killed, killed.start())
    finish(whole, undisturbed)
    return whole, killed


def checkpoint(run: Run) -> dict:
    path = newest_checkpoint(run.run_dir / "checkpoints")
    assert path is not None
    assert path.name == f"step-{NUM_STEPS:08d}.ckpt"
    return torch.load(path, weights_only=True)


def test_every_start_continued_from_the_last_checkpoint(runs):
    record = json.loads((runs[1].run_dir / "run.json").read_text())
    resumed_from = [start["resumed_from"] for start in record["starts"]]
    assert resumed_from[0] is None
    steps = [int(Path(path).stem.removeprefix("step-")) for path in resumed_from[1:]]
    # The kill comes a moment after the step began, so the run may have come one step further.
    assert len(steps) == NUM_KILLS
    for step, killed_at in zip(steps, KILLED_AT, strict=True):
        assert killed_at - 1 <= step <= killed_at + 2, (steps, KILLED_AT)
    # Nothing but the steps since those checkpoints was done again.
    num_repeated = len(runs[1].batches()) - 2 * NUM_STEPS
    assert num_repeated <= 2 * NUM_KILLS * 4


def test_the_order_of_the_samples_is_the_same(runs):
    whole, killed = runs
    expected = whole.batches()
    assert len(expected) == 2 * NUM_STEPS
    repeated = killed.batches()
    assert len(repeated) > len(expected)  # steps since the last checkpoint were done again
    by_place = {(batch["epoch"], batch["batch"]): batch for batch in repeated}
    assert [by_place[batch["epoch"], batch["batch"]] for batch in expected] == expected
    assert all(batch in expected for batch in repeated)


def test_the_losses_are_the_same_bit_for_bit(runs):
    whole, killed = (read_metrics(str(run.run_dir)) for run in runs)
    expected = {
        step: metrics["train/loss"] for step, metrics in whole.items() if "train/loss" in metrics
    }
    assert list(expected) == list(range(NUM_STEPS))
    assert {step: killed[step]["train/loss"] for step in expected} == expected
    rates = {step: whole[step]["train/learning_rate"] for step in expected}
    assert {step: killed[step]["train/learning_rate"] for step in expected} == rates


def test_the_weights_and_the_optimizer_are_the_same_bit_for_bit(runs):
    whole, killed = (checkpoint(run) for run in runs)
    assert whole["state_dict"].keys() == killed["state_dict"].keys()
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, killed["state_dict"][name]), name
    expected = whole["optimizer_states"][0]["state"]
    found = killed["optimizer_states"][0]["state"]
    assert expected.keys() == found.keys()
    for index, state in expected.items():
        for name, value in state.items():
            assert torch.equal(value, found[index][name]), (index, name)


def test_the_merged_model_is_the_same_file(runs):
    whole, killed = (run.run_dir / "reasoner" for run in runs)
    for name in ("fusion.safetensors", "language_model/model.safetensors"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
