"""``perceive`` in many processes, killed and stopped; training from what they leave."""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_experiment import PERCEIVER, SEGMENTER, write_clip

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig, PerceiveConfig
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from experiments.perceive.plan import Plan, Share, share_of
from experiments.perceive.run import perceive
from experiments.store.__main__ import main as store_program
from vidreason.config import merge_config, save_config
from vidreason.example import Example
from vidreason.perception.models import build_video_encoder
from vidreason.perception.sam import build_sam
from vidreason.pretrained.folder_config import CONFIG_FILE
from vidreason.store.maintenance import verify
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import UnreadableVideosError

CHECKOUT = Path(__file__).parents[2]


def example(media: str, number: int = 0, start: float | None = None) -> Example:
    return Example(
        id=f"{media}-{number}-{start}",
        corpus="made up",
        media=media,
        video_id=media,
        start_seconds=start,
        prompt="?",
        response="!",
    )


def write_world(folder: Path, num_videos: int) -> Path:
    """A corpus in WebVid's form with so many videos; returns a configuration file."""
    (folder / "world" / "videos" / "page").mkdir(parents=True)
    rows = ["videoid,name,page_idx,page_dir,duration,contentUrl"]
    for number in range(num_videos):
        write_noise(folder / "world" / "videos" / "page" / f"{number}.mp4", number)
        rows.append(f"{number},a square moves,0,page,PT1S,https://example.org/{number}")
    (folder / "world" / "train.csv").write_text("\n".join(rows) + "\n")
    config = {
        "run_dir": str(folder / "run"),
        "perceiver": PERCEIVER
        | {"use_objects": True, "objects_per_key_frame": 2, "segmenter": SEGMENTER},
        "store": {"path": str(folder / "store"), "dtype": "float32", "flush_seconds": 0.0},
        "data": {
            "train": [{"reader": "webvid", "root": str(folder / "world"), "split": "train"}],
            "max_unreadable_fraction": 0.0,
            "decode_timeout_seconds": None,  # in this process: no decoder to start for each
        },
        "device": "cpu",
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_noise(path: Path, seed: int) -> None:
    """A video like no other: the store would keep equal ones once."""
    pictures = np.random.default_rng(seed).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def read(path: Path, *overrides: str) -> ExperimentConfig:
    return merge_config(ExperimentConfig, [str(path)], overrides)


def num_stored(config: ExperimentConfig) -> int:
    """Number of the corpus' spans in the store."""
    source = VisualTokenSource(config.perceiver, config.store)
    plan = Plan(open_corpora(config.data.train), Share(0, 1))
    return sum(
        source.key(span.media, span.start_seconds, span.end_seconds) in source.store
        for span in plan
    )


def perceive_in_child(config: ExperimentConfig, pause_seconds: float = 0.0) -> int:
    """A process that perceives; a fork, because importing torch takes seconds.

    It pauses before each video, so that it can be killed before it has ended by itself.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with Path(os.devnull).open("w") as nowhere:
                sys.stdout = sys.stderr = nowhere
                real = VisualTokenSource.__call__

                def slow(self, *span):
                    time.sleep(pause_seconds)
                    return real(self, *span)

                VisualTokenSource.__call__ = slow
                perceive(config)
            status = 0
        except UnreadableVideosError:
            status = 2
        finally:
            os._exit(status)
    return child


def wait_for_shards(store: Path, process_id: int | str, count: int) -> None:
    """Wait until a process, or any (``"*"``), has written so many shards; names carry its id."""
    pattern = f"*-{process_id}-*.safetensors"
    limit = time.monotonic() + 60
    while len(list((store / "shards").glob(pattern))) < count:
        assert time.monotonic() < limit
        time.sleep(0.002)


def kill_some(path: Path, num_processes: int, num_killed: int, seed: int, share: bool) -> None:
    """Perceive in several processes, kill some at random, and check what is left."""
    generator = random.Random(seed)
    configs = [
        read(
            path,
            f"run_dir={path.parent / f'run{number}'}",
            *([f"perceive={{shard_index: {number}, num_shards: {num_processes}}}"] * share),
        )
        for number in range(num_processes)
    ]
    children = [
        perceive_in_child(config, 0.1 if number < num_killed else 0.0)
        for number, config in enumerate(configs)
    ]
    store = path.parent / "store"
    for child in children[:num_killed]:
        # Where each does all of it, another one may be faster at every video.
        wait_for_shards(store, child if share else "*", 1)
        time.sleep(generator.random() * 0.03)
        os.kill(child, signal.SIGKILL)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert [os.WIFSIGNALED(status) for status in statuses[:num_killed]] == [True] * num_killed
    assert statuses[num_killed:] == [0] * (num_processes - num_killed)

    config = read(path)
    verdict = verify(store)
    assert verdict.damage == []
    present = num_stored(config)
    total = len(Plan(open_corpora(config.data.train), Share(0, 1)))
    assert verdict.num_entries >= present
    if share:
        assert 0 < present < total  # the killed ones' shares are missing in part
        assert verdict.num_entries == present
    counts = perceive(config)
    assert (counts.perceived, counts.stored) == (total - present, present)
    assert verify(store).is_clean
    again = perceive(config)
    assert (again.perceived, again.stored) == (0, total)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, of threads
def test_three_processes_fill_one_store_and_one_is_killed(tmp_path):
    kill_some(write_world(tmp_path, 15), 3, 1, seed=0, share=True)


@pytest.mark.slow  # ten processes on a machine of two cores
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("share", [True, False], ids=["a share each", "all of it each"])
def test_ten_processes_fill_one_store_and_three_are_killed(tmp_path, share):
    kill_some(write_world(tmp_path, 120), 10, 3, seed=1, share=share)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_perceived_in_the_store(tmp_path, capsys, number):
    path = write_world(tmp_path, 10)
    config = read(path, "store.flush_seconds=1000")
    seen: list[int] = []
    real = VisualTokenSource.__call__

    def count_and_stop(self, *span):
        tokens = real(self, *span)
        seen.append(1)
        if len(seen) == 4:
            os.kill(os.getpid(), number)
        return tokens

    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(VisualTokenSource, "__call__", count_and_stop)
        with pytest.raises(SystemExit) as stopped:
            perceive(config)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert f"stopped by {number.name}: 6 are missing" in capsys.readouterr().out
    assert num_stored(config) == 4
    counts = perceive(config)
    assert (counts.perceived, counts.stored, counts.missing) == (6, 4, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_second_ctrl_c_does_not_wait(tmp_path):
    config = read(write_world(tmp_path, 3))
    real = VisualTokenSource.__call__

    def press_twice(self, *span):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *span)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(VisualTokenSource, "__call__", press_twice)
        with pytest.raises(KeyboardInterrupt):
            perceive(config)
    assert num_stored(config) == 0


@pytest.mark.slow  # starts a process that starts two, each of which imports torch
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_a_run_with_workers(tmp_path, number):
    path = write_world(tmp_path, 200)
    command = [sys.executable, "-m", "experiments.perceive", "--config", str(path)]
    command += ["perceive.num_workers=2", "store.flush_seconds=1000"]
    command += ["data.decode_timeout_seconds=60"]  # with decoders, which get the signal too
    run = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    config = read(path)
    logs = tmp_path / "store" / "media"
    while not logs.is_dir() or sum(len(log.read_text()) for log in logs.glob("*.jsonl")) < 1000:
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, number)  # as a scheduler does, and a terminal
    printed, complaints = run.communicate(timeout=120)
    assert run.returncode == 128 + number, complaints
    assert "Traceback" not in complaints
    present = num_stored(config)
    assert f"perceived {present} videos" in printed
    assert f"{200 - present} are missing" in printed
    assert 0 < present < 200
    assert not (tmp_path / "run" / "failures.jsonl").exists()
    assert verify(tmp_path / "store").is_clean


def test_the_shares_of_an_array_are_everything_once(tmp_path):
    examples = [example(f"/videos/{n}.mp4", start=s) for n in range(200) for s in (None, 1.0)]
    parts = [Plan(examples, Share(index, 7)) for index in range(7)]
    ids = [span.id for part in parts for span in part]
    assert sorted(ids) == sorted(each.id for each in examples)
    assert min(len(part) for part in parts) > 25
    for part in parts:  # all spans of a video are in one part
        media = [span.media for span in part]
        assert all(media.count(name) == 2 for name in media)


def test_a_plan_has_each_span_once_and_a_file_under_all_its_names(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "link.mp4").hardlink_to(tmp_path / "a.mp4")
    first, link = str(tmp_path / "a.mp4"), str(tmp_path / "link.mp4")
    examples = [
        example(first),
        example(first, 1),
        example(first, 2, start=1.0),
        example(link, 3),
        example(link, 4),
        example(link, 5, start=2.0),
        example("absent.mp4"),
    ]
    plan = Plan(examples, Share(0, 1))
    assert [(span.media, span.start_seconds) for span in plan] == [
        (first, None),
        (first, 1.0),
        (link, 2.0),
        ("absent.mp4", None),
    ]
    assert len(plan) == 4
    assert [span.media for span in plan.aliases] == [link]


def slurm(task: int, first: int, last: int, count: int | None = None) -> dict[str, str]:
    values = {
        "ID": task,
        "MIN": first,
        "MAX": last,
        "COUNT": last - first + 1 if count is None else count,
    }
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        ({}, {}, (0, 1)),
        ({}, slurm(3, 0, 9), (3, 10)),
        ({}, slurm(10, 1, 10), (9, 10)),
        ({"num_shards": 100}, slurm(42, 42, 42), (42, 100)),
        ({"shard_index": 1, "num_shards": 2}, slurm(3, 0, 9), (1, 2)),
    ],
)
def test_the_share_of_a_task(config, environment, expected):
    assert share_of(PerceiveConfig(**config), environment) == Share(*expected)


@pytest.mark.parametrize(
    ("config", "environment", "message"),
    [
        ({"shard_index": 2, "num_shards": 2}, {}, r"expected 0 to 1 .*found 2"),
        ({"shard_index": 1}, {}, r"give both or neither"),
        ({"num_shards": 3}, {}, r"give both or neither"),
        ({}, slurm(7, 3, 7, count=2), r"perceive\.num_shards: the SLURM array has 2 tasks"),
    ],
)
def test_shares_that_do_not_fit_are_refused(config, environment, message):
    with pytest.raises(ValueError, match=message):
        share_of(PerceiveConfig(**config), environment)


def test_tasks_of_an_array_write_failure_logs_of_their_own(tmp_path):
    num_videos = 30  # which of two parts a video is in depends on its path: each gets some
    path = write_world(tmp_path, num_videos)
    for broken in (tmp_path / "world" / "videos" / "page").glob("*.mp4"):
        broken.write_text("no video")
    rows = []
    for index in range(2):
        with pytest.raises(UnreadableVideosError):
            perceive(read(path, f"perceive={{shard_index: {index}, num_shards: 2}}"))
        log = tmp_path / "run" / f"failures-{index}.jsonl"
        rows += [json.loads(line)["path"] for line in log.read_text().splitlines()]
    assert len(set(rows)) == len(rows) == num_videos


@pytest.fixture
def perceived(tiny_experiment, filmed_experiment, tmp_path):
    """The filmed experiment with a store filled, and a copy of its corpus of its own."""
    overlay, broken = filmed_experiment
    root = tmp_path / "nextqa"
    shutil.copytree(broken.parents[2], root)
    write_clip(root / broken.relative_to(broken.parents[2]), 5)
    corpus = {"reader": "nextqa", "root": str(root), "split": "train"}
    corpora_file = tmp_path / "own.yaml"
    corpora_file.write_text(yaml.safe_dump({"data": {"train": [corpus], "benchmark": []}}))

    def config(*overrides: str) -> ExperimentConfig:
        locations = [f"run_dir={tmp_path / 'run'}", f"store.path={tmp_path / 'store'}"]
        files = [str(tiny_experiment), str(overlay), str(corpora_file)]
        return merge_config(ExperimentConfig, files, [*locations, *overrides])

    perceive(config())
    return root, config


def losses(folder: Path) -> list[float]:
    return [metrics["train/loss"] for metrics in read_metrics(str(folder)).values()]


@pytest.mark.parametrize(
    "dtype",
    ["float32", *(pytest.param(d, marks=pytest.mark.slow) for d in ("int8", "bfloat16"))],
)
def test_training_from_a_store_needs_no_video_and_no_encoder(
    perceived, tmp_path, monkeypatch, dtype
):
    root, config = perceived
    stored = f"store={{path: {tmp_path / dtype}, dtype: {dtype}}}"
    # The first epoch perceives and stores, the second run finds everything.
    fit(config(stored, f"run_dir={tmp_path / 'first'}"))
    gc.collect()  # what waits is written when the trainer's cycles go, or the process ends

    def refuse(*arguments, **options):
        raise AssertionError("a video was opened or an encoder built")

    monkeypatch.setattr("vidreason.store.visual_token_source.build_perceiver", refuse)
    monkeypatch.setattr("vidreason.video.reader.VideoReader.read_content", refuse)
    monkeypatch.setattr("vidreason.video.reader.VideoReader.index", refuse)
    for video in (root / "NExTVideo").rglob("*.mp4"):
        video.unlink()
    fit(config(stored, f"run_dir={tmp_path / 'second'}"))
    first, second = losses(tmp_path / "first"), losses(tmp_path / "second")
    assert len(first) == 3
    assert first == second


@pytest.mark.slow
def test_training_from_a_store_needs_no_weights(perceived, tmp_path, capsys):
    root, config = perceived
    perceiver = config().perceiver
    encoder, segmenter = tmp_path / "encoder.safetensors", tmp_path / "segmenter.pth"
    save_file(build_video_encoder(perceiver.video_encoder).state_dict(), encoder)
    torch.save(build_sam(perceiver.segmenter).state_dict(), segmenter)
    overrides = (
        *(f"perceiver.video_encoder.weights={encoder}", f"perceiver.segmenter.weights={segmenter}"),
        *(f"store.path={tmp_path / 'own'}", "store.dtype=float32"),
    )
    fit(config(*overrides, f"run_dir={tmp_path / 'first'}"))
    gc.collect()
    for file in (encoder, segmenter, *(root / "NExTVideo").rglob("*.mp4")):
        file.unlink()
    fit(config(*overrides, f"run_dir={tmp_path / 'second'}"))
    first, second = losses(tmp_path / "first"), losses(tmp_path / "second")
    assert len(first) == 3
    assert first == second
    # What the reasoner refers to is the same, though nobody could look at it.
    recorded = [
        json.loads((tmp_path / run / "reasoner" / CONFIG_FILE).read_text())["frozen_parts"]
        for run in ("first", "second")
    ]
    assert recorded[0] == recorded[1]
    assert set(recorded[0]) >= {"video_encoder", "segmenter"}
    assert run_store(config(*overrides), "stats") == 0
    assert "\n* " in capsys.readouterr().out


def run_store(perceived_config: ExperimentConfig, *arguments: str) -> int:
    path = Path(perceived_config.store.path).with_name("for_store.yaml")
    save_config(perceived_config, path)
    return store_program([arguments[0], "--config", str(path), *arguments[1:]])


@pytest.mark.slow
def test_the_store_program_verifies_repairs_counts_and_collects(perceived, tmp_path, capsys):
    _, config = perceived
    assert run_store(config(), "verify") == 0
    assert "6 sound entries\nthe store is clean" in capsys.readouterr().out
    assert run_store(config(), "stats") == 0
    printed = capsys.readouterr().out
    assert "viclip-b16, custom" in printed or "viclip, custom" in printed
    assert "content hashes of media: 6" in printed

    (shard,) = (tmp_path / "store" / "shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[-10] ^= 1
    shard.write_bytes(content)
    assert run_store(config(), "verify") == 1
    assert "1 entries are damaged" in capsys.readouterr().out
    assert run_store(config(), "verify", "repair=true") == 0
    assert "kept 5 sound entries" in capsys.readouterr().out
    assert perceive(config()).perceived == 1

    other = config("perceiver.objects_per_key_frame=1")
    assert run_store(other, "gc") == 0
    assert "2 files of" in capsys.readouterr().out
    assert run_store(config(), "verify") == 0
    assert run_store(other, "gc", "delete=true", "unfinished_hours=0") == 0
    assert run_store(other, "verify") == 0
    assert "0 shards, 0 sound entries" in capsys.readouterr().out
    assert perceive(config()).perceived == 6
    assert run_store(config(), "gc") == 0
    assert "0 files of 0 B can go" in capsys.readouterr().out


def test_the_store_program_says_in_a_line_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        store_program(["tidy"])
    assert "the first argument must be one of verify, stats, gc" in capsys.readouterr().err
    assert store_program(["verify"]) == 2
    assert "store.path is empty" in capsys.readouterr().err
    assert store_program(["stats", f"store.path={tmp_path / 'absent'}"]) == 2
    assert "there is no folder" in capsys.readouterr().err
