"""Runs that are killed and started again with the same command, and what must come of them."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from forked_fit import Child, Nursery, Orders, free_port, srun_environment

from experiments.fit.metrics_log import read_metrics
from vidreason.training.checkpoint import newest_checkpoint

SAMPLES_AT_ONCE = 2
"""Samples of a micro-batch, over all ranks."""
PROGRESS_SECONDS = 120
"""Longest time of a run to its next batch on a busy machine."""
SURVIVAL_SECONDS = 20
"""Longest time that a rank may outlive one that was killed."""


@dataclass(frozen=True, kw_only=True)
class Blow:
    """A signal at some point of a run."""

    number: signal.Signals
    ranks: tuple[int, ...]
    after_batches: int
    """Micro-batches that rank 0 has begun since this start."""
    delay_seconds: float = 0.0
    also_their_children: bool = False
    """Signal worker processes, too, as SLURM does."""


@dataclass
class Attempt:
    """One start of a run: its ranks."""

    run: "Run"
    ranks: list[Child]
    former_batches: int

    def strike(self, blow: Blow) -> None:
        """Wait for the moment of ``blow``, and strike."""
        deadline = time.monotonic() + PROGRESS_SECONDS
        while len(self.run.batches()) < self.former_batches + blow.after_batches:
            if all(rank.poll() is not None for rank in self.ranks):
                break  # too late: it has ended
            assert time.monotonic() < deadline, self.run.log()
            time.sleep(0.005)
        time.sleep(blow.delay_seconds)
        for rank in blow.ranks:
            self.ranks[rank].signal(blow.number, group=blow.also_their_children)

    def end(self) -> list[int]:
        """Statuses of the ranks; once one of them has failed, the others have to end as well."""
        deadline = time.monotonic() + PROGRESS_SECONDS
        while any(rank.poll() is None for rank in self.ranks):
            if any(rank.poll() for rank in self.ranks):
                return [self._survive(rank) for rank in self.ranks]
            assert time.monotonic() < deadline, self.run.log()
            time.sleep(0.002)
        return [rank.wait(0) for rank in self.ranks]

    def _survive(self, rank: Child) -> int:
        try:
            return rank.wait(SURVIVAL_SECONDS)
        except TimeoutError:
            rank.signal(signal.SIGKILL)
            raise


@dataclass
class Run:
    """A run folder, and the one command that works on it, whatever happens to it."""

    nursery: Nursery
    config: Path
    run_dir: Path
    overrides: tuple[str, ...] = ()
    num_starts: int = 0
    sessions: list[int] = field(default_factory=list)

    def start(
        self,
        world_size: int = 1,
        *,
        die_at_operation: int = 0,
        within: str = "",
        max_file_bytes: int = 0,
    ) -> Attempt:
        """Start all ranks, as ``srun`` does.

        Args:
            world_size: How many.
            die_at_operation: Rank 0 kills itself before this operation on files of the run folder,
                counted from 1.
            within: Only operations in this folder below it count.
            max_file_bytes: See :class:`Orders`.
        """
        self.num_starts += 1
        former = len(self.batches())
        self.run_dir.mkdir(parents=True, exist_ok=True)
        port = free_port()
        ranks = []
        for rank in range(world_size):
            orders = Orders(
                arguments=self.arguments(world_size),
                environment=srun_environment(rank, world_size, port),
                log=str(self._log_path(rank)),
                folder=str(self.run_dir / within),
                die_at_operation=die_at_operation if rank == 0 else 0,
                max_file_bytes=max_file_bytes,
            )
            ranks.append(self.nursery.start(orders))
        self.sessions += [rank.pid for rank in ranks]
        return Attempt(self, ranks, former)

    def finish(self, world_size: int = 1) -> None:
        statuses = self.start(world_size).end()
        assert statuses == [0] * world_size, self.log()

    def batches(self, rank: int = 0) -> list[dict[str, Any]]:
        """The micro-batches in the order in which they were begun, repeats included."""
        path = self.run_dir / f"samples-rank{rank}.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def resumed_from(self) -> list[int]:
        """The step of the checkpoint that each start continued from; 0 for none."""
        record = json.loads((self.run_dir / "run.json").read_text())
        paths = [start["resumed_from"] for start in record["starts"]]
        return [int(Path(path).stem.removeprefix("step-")) if path else 0 for path in paths]

    def log(self) -> str:
        paths = sorted(self.run_dir.parent.glob(f"{self.run_dir.name}-{self.num_starts}-*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in paths)

    def left_over(self) -> list[int]:
        """Processes that former starts have left running; they get a moment to end."""
        deadline = time.monotonic() + SURVIVAL_SECONDS
        while (alive := list(_sessions(self.sessions))) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive

    def _log_path(self, rank: int) -> Path:
        return self.run_dir.parent / f"{self.run_dir.name}-{self.num_starts}-{rank}.log"

    def arguments(self, world_size: int) -> list[str]:
        """Arguments of ``experiments.fit``."""
        several = [] if world_size == 1 else [f"trainer.devices={world_size}", "data.batch_size=1"]
        arguments = ["--config", str(self.config), f"run_dir={self.run_dir}"]
        return [*arguments, *several, *self.overrides]


def blows(seed: int, world_size: int) -> Iterator[Blow]:
    """Signals at random points, each after some progress, so that a run comes to its end.

    Before the second step a rank may wait for one that is gone for as long as torch lets it, half
    an hour: not in a collective, which fails when the connection does, but for the other to come
    and connect. Launchers end that; see ``test_launchers.py``.
    """
    numbers = random.Random(seed)
    kinds = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1]
    while True:
        some = numbers.randrange(world_size)
        yield Blow(
            number=numbers.choice(kinds),
            ranks=tuple(range(world_size)) if numbers.random() < 0.5 else (some,),
            after_batches=numbers.randint(3, 7),
            delay_seconds=numbers.uniform(0.0, 0.05),
        )


def global_samples(run: Run) -> dict[tuple[int, int], list[str]]:
    """Ids by (epoch, step) in the global order, from the last time that each batch was begun."""
    ranks = [{(b["epoch"], b["batch"]): b for b in run.batches(rank)} for rank in (0, 1)]
    samples: dict[tuple[int, int], list[str]] = {}
    for position, batch in sorted(ranks[0].items()):
        ids = batch["ids"]
        if len(ids) < SAMPLES_AT_ONCE:  # a start with two processes, which share them
            ids = ids + ranks[1][position]["ids"]
        samples.setdefault((position[0], batch["step"]), []).extend(ids)
    return samples


def logged(run: Run, name: str) -> dict[int, float]:
    """A metric by step."""
    metrics = read_metrics(str(run.run_dir))
    return {step: row[name] for step, row in metrics.items() if name in row}


def assert_same_training(run: Run, expected: Run, world_size: int) -> None:
    """Both runs trained on the same samples, to the same losses, weights and optimizer state."""
    for rank in range(world_size):
        wanted = expected.batches(rank)
        repeated = run.batches(rank)
        by_position = {(batch["epoch"], batch["batch"]): batch for batch in repeated}
        assert [by_position[batch["epoch"], batch["batch"]] for batch in wanted] == wanted
        assert all(batch in wanted for batch in repeated)
    assert logged(run, "train/loss") == logged(expected, "train/loss")
    assert logged(run, "train/learning_rate") == logged(expected, "train/learning_rate")
    validated = logged(expected, "val/loss")
    # That of the last step is not made up for, see PendingValidation.
    assert [(s, v) for s, v in validated.items() if logged(run, "val/loss").get(s) != v] in (
        [],
        list(validated.items())[-1:],
    )
    _assert_equal(_checkpoint(run), _checkpoint(expected))
    weights = sorted((expected.run_dir / "reasoner").rglob("*.safetensors"))
    assert len(weights) >= 2
    for path in weights:
        other = run.run_dir / path.relative_to(expected.run_dir)
        assert path.read_bytes() == other.read_bytes(), path.name


def _checkpoint(run: Run) -> dict[str, Any]:
    path = newest_checkpoint(run.run_dir / "checkpoints")
    assert path is not None
    content = torch.load(path, weights_only=True)
    keys = ("state_dict", "optimizer_states", "global_step", "average")
    return {key: content[key] for key in keys if key in content}


def _assert_equal(value: Any, expected: Any, where: str = "") -> None:
    assert type(value) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert torch.equal(value, expected), where
    elif isinstance(expected, dict):
        assert value.keys() == expected.keys(), where
        for key, other in expected.items():
            _assert_equal(value[key], other, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(value) == len(expected), where
        for number, other in enumerate(expected):
            _assert_equal(value[number], other, f"{where}/{number}")
    else:
        assert value == expected, where


def _sessions(leaders: list[int]) -> Iterator[int]:
    """Live processes in the sessions of ``leaders``."""
    wanted = set(leaders)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z" and int(fields[3]) in wanted:
            yield int(entry.name)
