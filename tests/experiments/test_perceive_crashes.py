"""Workers of ``perceive`` that crash: nothing is lost but the video that they crash on."""

import json
import os
import random
import signal
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

import experiments.perceive.run as program
from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig, PerceiveConfig
from experiments.perceive import pool
from experiments.perceive.plan import Span
from experiments.perceive.pool import Report, Seen, perceive_in_workers
from experiments.perceive.run import Counts, perceive
from vidreason.config import merge_config
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.perception.visual_tokens import CLIP_TOKEN, VisualTokens
from vidreason.store.maintenance import verify
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import UnreadableVideosError, VideoFailure

# A spawned worker imports this module to find the class: without the ambiguous name "conftest".


class DeadlySource(VisualTokenSource):
    """Sees made-up tokens; some videos end the process, as the system does when memory is short."""

    def _perceive(self, media, start_seconds, end_seconds):
        content = Path(media).read_bytes()
        if content.startswith(b"deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return VisualTokens(
            features=torch.full((1, 8), float(content.removeprefix(b"video "))),
            kinds=torch.tensor([CLIP_TOKEN]),
            spans=torch.tensor([[0.0, 1.0]]),
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
            areas=torch.ones(1),
            track_ids=torch.tensor([-1]),
            masks=(None,),
            duration_seconds=1.0,
        )


class World:
    """State that the fake processes share: videos that they crash on, entries on the disk."""

    def __init__(self, seed: int, crashes: dict[str, int]) -> None:
        self.random = random.Random(seed)
        self.crashes = Counter(crashes)
        self.disk: Counter[str] = Counter()
        self.num_started = 0


def fake_executor(world: World) -> type:
    class FakeExecutor:
        """A process pool of one process that does at once what it is told."""

        def __init__(self, max_workers, **_):
            assert max_workers == 1
            world.num_started += 1
            self.waiting: list[str] = []
            self.is_broken = False

        def submit(self, _, spans, *, is_written):
            task: Future[Report] = Future()
            # That a process has crashed is noticed at once or somewhat later.
            if self.is_broken and world.random.random() < 0.5:
                raise BrokenProcessPool
            outcomes = []
            for span in spans:
                if world.crashes[span.media] > 0 and not self.is_broken:
                    world.crashes[span.media] -= 1
                    self.is_broken = True
                if self.is_broken:
                    break
                is_stored = span.media in world.disk
                outcomes.append(Seen("stored" if is_stored else "perceived", int(span.media)))
                self.waiting += [] if is_stored else [span.media]
                if world.random.random() < 0.05:
                    self.flush()
            if not self.is_broken and is_written:
                self.flush()
            if self.is_broken:
                task.set_exception(BrokenProcessPool())
            else:
                task.set_result(Report(outcomes, len(self.waiting)))
            return task

        def flush(self):
            world.disk.update(self.waiting)
            self.waiting = []

        def shutdown(self, **_):
            if not self.is_broken:
                self.flush()

    return FakeExecutor


class Stop:
    """A flag without another process to share it with."""

    value = 0


def spans(number: int) -> list[Span]:
    return [
        Span(id=f"id {n}", media=str(n), start_seconds=None, end_seconds=None)
        for n in range(number)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_crashes_a_worker_all_else_is_perceived_and_counted_once(seed, monkeypatch):
    generator = random.Random(seed)
    number = generator.choice([1, 5, 60, 200])
    names = [span.media for span in spans(number)]
    always = set(generator.sample(names, number // 20))
    once = set(generator.sample(names, number // 10)) - always
    crashes = {name: 10**9 for name in always} | dict.fromkeys(once, 1)
    world = World(seed, crashes)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", fake_executor(world))
    limit = 2 * len(always) + len(once)
    outcomes = list(
        perceive_in_workers(None, spans(number), Stop(), generator.choice([1, 2, 7]), limit)
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, VideoFailure)]
    failed = {failure.path for failure in failures}
    # Of two that share a chunk, the second may kill its first worker when it is alone with it.
    assert always <= failed <= always | once
    assert len(failed) == len(failures)
    assert {failure.cause for failure in failures} <= {"crashed"}
    counts = Counts()
    for outcome in outcomes:
        if isinstance(outcome, Seen):
            counts.add(outcome, num_clips=0)
    # What a worker had written before it crashed is found in the store.
    assert counts.perceived + counts.stored == number - len(failed)
    assert counts.objects == sum(int(name) for name in set(names) - failed)
    assert counts.without_objects == ("0" not in failed)
    assert world.disk.keys() == set(names) - failed
    assert max(world.disk.values(), default=1) == 1


def test_a_video_that_a_worker_once_crashed_on_is_perceived_by_the_next(monkeypatch):
    world = World(0, {"20": 1})
    monkeypatch.setattr(pool, "ProcessPoolExecutor", fake_executor(world))
    outcomes = list(perceive_in_workers(None, spans(60), Stop(), 3, 1))
    states = [outcome.state for outcome in outcomes]
    assert set(states) <= {"perceived", "stored", "lost"}
    assert len(states) - 2 * states.count("lost") == len(world.disk) == 60
    assert world.num_started == 4


def test_too_many_crashes_end_the_run_with_what_to_do(monkeypatch):
    world = World(0, {"30": 10**9, "31": 10**9, "50": 10**9})
    monkeypatch.setattr(pool, "ProcessPoolExecutor", fake_executor(world))
    stop = Stop()
    outcomes = []
    message = r"(?s)4 worker processes crashed; perceive.max_crashes is 3.*in hand: 48, 49, "
    with pytest.raises(UnreadableVideosError, match=message):
        outcomes += perceive_in_workers(None, spans(60), stop, 1, 3)
    assert stop.value == signal.SIGTERM
    assert set(map(str, range(24, 30))) <= world.disk.keys()  # alone, and written at once
    with pytest.raises(ValueError, match=r"perceive\.max_crashes is -1; it must be at least 0"):
        PerceiveConfig(max_crashes=-1)


def test_a_crash_after_the_signal_to_stop_is_nobodys_fault(monkeypatch):
    world = World(0, {"20": 10**9})
    monkeypatch.setattr(pool, "ProcessPoolExecutor", fake_executor(world))
    stop, outcomes = Stop(), []
    for outcome in perceive_in_workers(None, spans(60), stop, 1, 0):
        outcomes.append(outcome)
        stop.value = len(outcomes) >= 16
    states = [outcome.state for outcome in outcomes]
    assert set(states) <= {"perceived", "lost"}
    assert states.count("perceived") - states.count("lost") == len(world.disk)


def write_world(folder: Path, contents: list[str]) -> ExperimentConfig:
    videos = folder / "world" / "videos"
    videos.mkdir(parents=True)
    rows = ["videoid,name,page_dir"]
    for number, content in enumerate(contents):
        (videos / f"{number}.mp4").write_text(content)
        rows.append(f"{number},a square moves,")
    (folder / "world" / "train.csv").write_text("\n".join(rows) + "\n")
    config = merge_config(
        ExperimentConfig,
        [],
        [
            f"run_dir={folder / 'run'}",
            f"store={{path: {folder / 'store'}, dtype: float32, flush_seconds: 1000}}",
            f"data.train=[{{reader: webvid, root: {folder / 'world'}}}]",
            "data.max_unreadable_fraction=0.1",
            "device=cpu",
            "perceive.num_workers=2",
        ],
    )
    config.perceiver = PerceiverConfig(use_objects=False)
    return config


@pytest.mark.slow  # each of seven processes imports torch anew
def test_a_video_that_crashes_its_worker_is_a_failure_and_all_others_are_perceived(
    tmp_path, monkeypatch, capsys
):
    contents = [f"video {number}" for number in range(40)]
    contents[20] = "deadly"
    config = write_world(tmp_path, contents)
    monkeypatch.setattr(program, "VisualTokenSource", DeadlySource)
    counts = perceive(config)
    assert (counts.perceived, counts.stored, counts.unreadable, counts.missing) == (39, 0, 1, 0)
    (row,) = map(json.loads, (tmp_path / "run" / "failures.jsonl").read_text().splitlines())
    assert (row["id"], row["cause"]) == ("webvid:train:20", "crashed")
    assert row["detail"] == "the process that perceived it ended by SIGKILL, and so did one before"
    assert verify(tmp_path / "store").num_entries == 39
    assert verify(tmp_path / "store").is_clean

    source = DeadlySource(config.perceiver, config.store)
    for example in open_corpora(config.data.train):
        if example.video_id != "20":
            assert source(example.media).features[0, 0] == float(example.video_id)
    assert source.num_perceived == 0

    config.perceive.max_crashes = 0
    with pytest.raises(UnreadableVideosError, match=r"1 x by SIGKILL\n.*20\.mp4"):
        perceive(config)
    capsys.readouterr()
