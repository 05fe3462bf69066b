import json
import subprocess
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from callbacks.run_record import RunRecord, git_revision
from vidreason.config import merge_config


@dataclass(kw_only=True)
class Part:
    size: int = 3


@dataclass(kw_only=True)
class Config:
    name: str = "x"
    part: Part = field(default_factory=Part)


def trainer():
    return SimpleNamespace(
        is_global_zero=True,
        world_size=1,
        global_rank=0,
        global_step=4,
        current_epoch=1,
    )


def test_the_record_holds_what_is_needed_to_run_again(tmp_path):
    config = Config(name="y", part=Part(size=5))
    RunRecord(config, str(tmp_path)).setup(trainer(), None, "fit")
    assert merge_config(Config, [str(tmp_path / "config.yaml")]) == config
    (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert start["versions"]["torch"]
    assert start["command"]
    assert start["resumed_from"] is None


def test_each_start_is_added(tmp_path):
    RunRecord(Config(), str(tmp_path)).setup(trainer(), None, "fit")
    resumed = RunRecord(Config(), str(tmp_path), resumed_from="step-4.ckpt")
    resumed.setup(trainer(), None, "fit")
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, "step-4.ckpt"]


def test_consumed_samples_are_recorded_when_asked_for(tmp_path):
    RunRecord(Config(), str(tmp_path)).on_train_batch_start(trainer(), None, {"ids": ["a"]}, 0)
    assert not list(tmp_path.iterdir())
    callback = RunRecord(Config(), str(tmp_path), record_samples=True)
    callback.on_train_batch_start(trainer(), None, {"ids": ["a", "b"]}, 9)
    line = json.loads((tmp_path / "samples-rank0.jsonl").read_text())
    assert line == {"step": 4, "epoch": 1, "batch": 9, "ids": ["a", "b"]}


def test_git_revision(tmp_path):
    assert git_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    revision = git_revision(tmp_path)
    assert revision is not None
    assert len(revision) == 40
    (tmp_path / "file").write_text("2")
    assert git_revision(tmp_path) == revision + "-dirty"
