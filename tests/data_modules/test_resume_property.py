"""Killed anywhere and resumed with any workers and processes, a run consumes what was planned.

Each case is drawn at random: corpora, weights, batches, and a row of attempts, each with its own
number of processes and workers, that are killed (SIGKILL, all processes) after some micro-batch. No
model: the data module is driven as Lightning's loops drive it.
"""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerFast

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.training_data import InstructionDataModule, TrainingDataModule
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.training.dropped_tokens import drop_tokens
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import VideoReadError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker"),  # on two cores
]


NUM_TOKENS = 7


@dataclass(frozen=True)
class Attempt:
    """One start of the run."""

    world_size: int
    batch_size: int
    num_workers: int
    steps_a_checkpoint: int
    killed_after: int | None
    """Micro-batches, or None to go to the end."""


class Source:
    """Visual tokens without a video; every fifth video is unreadable."""

    def __init__(self, tokens: VisualTokens) -> None:
        self.tokens = tokens

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        if is_broken(Path(media).stem):
            raise VideoReadError(media, "truncated")
        return self.tokens


def is_broken(video_id: str) -> bool:
    return int(video_id.rpartition("-")[2]) % 5 == 3


class Run:
    """A plan, and attempts to carry it out."""

    def __init__(
        self,
        folder: Path,
        sizes: list[int],
        weights: list[float],
        global_batch_size: int,
        num_epochs: int,
        make_source: Callable[[], Source],
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.folder = folder
        self.max_unreadable_fraction = 1.0
        self.num_epochs = num_epochs
        self.corpora = []
        for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            root = folder / f"corpus{number}"
            root.mkdir()
            rows = "".join(f"{number}-{row},{'words ' * (row % 4)}{row},d\n" for row in range(size))
            (root / "train.csv").write_text("videoid,name,page_dir\n" + rows)
            self.corpora.append(
                CorpusConfig(reader="webvid", root=str(root), name=root.name, weight=weight)
            )
        self.global_batch_size = global_batch_size
        self.make_source = make_source
        self.tokenizer = tokenizer
        order = self.data(Attempt(1, 1, 0, 1, None)).order
        examples = self.data(Attempt(1, 1, 0, 1, None))
        examples.setup("fit")
        self.plan = [
            [
                examples.train_examples[index].id
                for step in range(order.steps_per_epoch)
                for index in order.step(epoch, step).tolist()
            ]
            for epoch in range(num_epochs)
        ]
        self.left = [self.tokens_left(epoch) for epoch in range(num_epochs)]
        """Visual tokens of each planned sample that are shown."""

    def tokens_left(self, epoch: int) -> list[list[bool]]:
        ids = self.plan[epoch]
        tokens = self.make_source().tokens
        shown = [tokens.without_tokens() if is_broken(one) else tokens for one in ids]
        visual = collate_visual_tokens(shown)
        data = self.data(Attempt(1, 1, 0, 1, None))
        return drop_tokens(visual, data.config.drop, data.seed, epoch, 0)["mask"].tolist()

    def data(self, attempt: Attempt) -> TrainingDataModule:
        config = DataConfig(
            train=self.corpora,
            batch_size=attempt.batch_size,
            global_batch_size=self.global_batch_size,
            num_epochs=self.num_epochs,
            num_workers=attempt.num_workers,
            max_text_tokens=96,
            max_unreadable_fraction=self.max_unreadable_fraction,
            drop={"clips": 0.5, "objects": 0.5, "moments": 0.5},
        )
        source = self.make_source()
        return InstructionDataModule(
            config,
            source,
            self.tokenizer,
            visual_dim=source.tokens.features.shape[1],
            failures_path=self.folder / "failures.jsonl",
            seed=4,
        )

    def carry_out(self, attempts: list[Attempt]) -> list[list[str]]:
        """All samples consumed, epoch by epoch: of each attempt up to its last checkpoint."""
        consumed: list[list[str]] = [[] for _ in self.plan]
        for number, attempt in enumerate(attempts):
            start = self.state()
            codes = self.start(number, attempt)
            # A killed attempt may also reach its end first, or lose its connection to a rank that
            # was killed a moment before.
            assert attempt.killed_after is not None or set(codes) == {0}
            end = self.state()
            ranks = [self.trace(number, rank) for rank in range(attempt.world_size)]
            for rank_lines in zip(*ranks, strict=False):  # killed at slightly different moments
                (position,) = {(line["epoch"], line["consumed"]) for line in rank_lines}
                ids = [one for line in rank_lines for one in line["ids"]]
                epoch, at = position
                # Whatever was loaded, also what a kill has made void, stands where it was planned.
                assert ids == self.plan[epoch][at : at + len(ids)], (attempt, position)
                left = [one for line in rank_lines for one in line["left"]]
                assert left == self.left[epoch][at : at + len(ids)], (attempt, position)
                if start[:2] <= [epoch, at] < end[:2]:
                    consumed[epoch] += ids
        return consumed

    def state(self) -> list[int]:
        path = self.folder / "state.json"
        if not path.exists():
            return [0, 0]
        state = json.loads(path.read_text())
        return [state["epoch"], state["samples_consumed"]]

    def trace(self, number: int, rank: int) -> list[dict[str, Any]]:
        text = (self.folder / f"trace-{number}-{rank}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def start(self, number: int, attempt: Attempt) -> list[int | None]:
        """Run all processes of an attempt; their exit codes."""
        processes = [
            get_context("fork").Process(target=self.work, args=(number, attempt, rank))
            for rank in range(attempt.world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            # Without a time limit: with one, it would also wait until the workers of a killed
            # process notice, up to five seconds.
            process.join()
        return [process.exitcode for process in processes]

    def work(self, number: int, attempt: Attempt, rank: int) -> None:
        if attempt.world_size > 1:
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"file://{self.folder}/rendezvous-{number}",
                rank=rank,
                world_size=attempt.world_size,
            )
        data = self.data(attempt)
        trace_path = self.folder / f"trace-{number}-{rank}.jsonl"
        try:
            drive(data, attempt, rank, self.folder, trace_path)
        except UnreadableVideosError as error:
            trace_path.with_suffix(".error").write_text(str(error))
        if attempt.world_size > 1:
            torch.distributed.destroy_process_group()


def drive(
    data: TrainingDataModule, attempt: Attempt, rank: int, folder: Path, trace_path: Path
) -> None:
    """Do with a data module what the training loop does, on one rank."""
    config = data.config
    counters = SimpleNamespace(ready=0, processed=0)
    progress = SimpleNamespace(current=counters, total=counters)
    at_once = attempt.batch_size * attempt.world_size
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank,
        world_size=attempt.world_size,
        accumulate_grad_batches=config.global_batch_size // at_once,
        training=True,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    data.setup("fit")
    state_path = folder / "state.json"
    if state_path.exists():
        data.load_state_dict(json.loads(state_path.read_text()))
    loader = data.train_dataloader()
    num_batches = 0
    with trace_path.open("w", buffering=1) as trace:
        while data.position[0] < config.num_epochs:
            for batch in loader:
                epoch, consumed = data.position
                batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
                left = pad(batch["visual"]["mask"], (0, NUM_TOKENS))[:, :NUM_TOKENS].tolist()
                line = {"epoch": epoch, "consumed": consumed, "ids": batch["ids"], "left": left}
                trace.write(json.dumps(line) + "\n")
                num_batches += 1
                if num_batches == attempt.killed_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                per_checkpoint = config.global_batch_size * attempt.steps_a_checkpoint
                if rank == 0 and data.position[1] % per_checkpoint == 0:
                    partial = folder / "state.partial"
                    partial.write_text(json.dumps(data.state_dict()))
                    os.replace(partial, state_path)
    loader._iterator = None  # ends the workers, as Lightning does


@pytest.fixture
def make_run(
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    make_visual_tokens: Callable[..., VisualTokens],
) -> Callable[..., Run]:
    def make(*plan: Any) -> Run:
        return Run(tmp_path, *plan, lambda: Source(make_visual_tokens(3, 4)), tiny_tokenizer)

    return make


def draw(generator: random.Random, max_workers: int, world_sizes: list[int]) -> tuple[Any, ...]:
    """A plan and attempts to carry it out."""
    sizes = [generator.randint(3, 60) for _ in range(generator.randint(1, 3))]
    weights = [generator.choice([0.5, 1.0, 1.0, 2.0]) for _ in sizes]
    num_epochs = generator.randint(1, 3)
    num_steps = round(sum(w * s for w, s in zip(weights, sizes, strict=True))) // 12 * num_epochs
    attempts = []
    for _ in range(generator.randint(1, 3)):
        world_size = generator.choice(world_sizes)
        batch_size = generator.choice(
            [b for b in (1, 2, 3, 4, 6, 12) if 12 % (b * world_size) == 0]
        )
        per_step = 12 // (batch_size * world_size)
        workers, every = generator.randint(0, max_workers), generator.randint(1, 3)
        killed_after = generator.randint(1, max(num_steps // 2, 1) * per_step)
        attempts.append(Attempt(world_size, batch_size, workers, every, killed_after))
    world_size = generator.choice(world_sizes)
    attempts.append(
        Attempt(world_size, 12 // world_size, generator.randint(0, max_workers), 1, None)
    )
    return (sizes, weights, 12, num_epochs), attempts


def check(run: Run, attempts: list[Attempt]) -> None:
    """The attempts together consume the plan, and count what could not be read, exactly once."""
    assert run.carry_out(attempts) == run.plan
    state = json.loads((run.folder / "state.json").read_text())
    consumed = [one for epoch in run.plan for one in epoch]
    assert state["samples_seen"] == len(consumed)
    broken = [one for one in consumed if is_broken(one.rpartition(":")[2])]
    assert state["samples_unreadable"] == len(broken)
    rows = (run.folder / "failures.jsonl").read_text().splitlines() if broken else []
    assert {json.loads(row)["id"] for row in rows} == set(broken)
    counts = Counter(consumed)
    for number, corpus in enumerate(run.corpora):
        shown = [count for one, count in counts.items() if f":{number}-" in one]
        missed = int(Path(corpus.root, "train.csv").read_text().count("\n")) - 1 - len(shown)
        assert max(shown) - (0 if missed else min(shown)) <= 1


def test_two_processes_then_one_then_three_consume_each_sample_once(
    make_run: Callable[..., Run],
) -> None:
    run = make_run([23, 25], [1.0, 1.0], 12, 2)
    for epoch in run.plan:
        assert Counter(epoch) == Counter(set(run.plan[0]))
    assert len(set(run.plan[0])) == 48
    attempts = [
        Attempt(2, 3, 1, 1, killed_after=5),
        Attempt(1, 4, 0, 1, killed_after=8),
        Attempt(3, 2, 0, 1, killed_after=None),
    ]
    check(run, attempts)


def test_a_budget_that_all_processes_spend_together_stops_all(make_run: Callable[..., Run]) -> None:
    run = make_run([24], [1.0], 12, 1)
    run.max_unreadable_fraction = 0.01
    codes = run.start(0, Attempt(2, 6, 0, 1, killed_after=None))
    assert codes == [0, 0]
    broken = [is_broken(one.rpartition(":")[2]) for one in run.plan[0]]
    first = next(step for step in range(2) if any(broken[12 * step : 12 * step + 12]))
    seen, failed = 12 * (first + 1), sum(broken[: 12 * (first + 1)])
    for rank in range(2):
        message = (run.folder / f"trace-0-{rank}.error").read_text()
        assert message.startswith(f"{failed} of {seen} samples had an unreadable video")


@pytest.mark.parametrize("seed", range(2))
def test_random_kills_of_one_process(make_run: Callable[..., Run], seed: int) -> None:
    plan, attempts = draw(random.Random(seed), max_workers=1, world_sizes=[1])
    check(make_run(*plan), attempts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 124))
def test_random_kills(make_run: Callable[..., Run], seed: int) -> None:
    plan, attempts = draw(random.Random(seed), max_workers=3, world_sizes=[1, 2, 3])
    check(make_run(*plan), attempts)
