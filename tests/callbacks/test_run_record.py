import json
import subprocess
import sys
from dataclasses import dataclass, field
from socket import gethostname
from types import SimpleNamespace

import pytest
from tiny_training import tiny_module

from callbacks.run_record import (
    GUIDE_FILE,
    RunRecord,
    git_revision,
    read_starts,
    read_weight_hashes,
)
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
        num_nodes=1,
        strategy="a strategy",
        precision="32-true",
        global_rank=0,
        global_step=4,
        current_epoch=1,
        early_stopping_callback=None,
    )


def test_the_record_holds_what_is_needed_to_run_again(tmp_path):
    config = Config(name="y", part=Part(size=5))
    RunRecord(config, tmp_path).setup(trainer(), None, "fit")
    assert merge_config(Config, [str(tmp_path / "config.yaml")]) == config
    (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert start["versions"]["torch"]
    assert start["command"]
    assert start["resumed_from"] is None
    assert (start["host"], start["world_size"], start["precision"]) == (gethostname(), 1, "32-true")
    assert start["threads"] >= 1
    assert "end" not in start  # as of a run that was killed


@pytest.mark.parametrize("finished", [True, False])
def test_the_record_says_how_a_start_ended(tmp_path, finished):
    callback = RunRecord(Config(), tmp_path)
    callback.on_exception(trainer(), None, ValueError("before the start"))
    assert not list(tmp_path.iterdir())
    callback.setup(trainer(), None, "fit")
    if finished:
        callback.on_fit_end(trainer(), None)
    else:
        callback.on_exception(trainer(), None, RuntimeError("no memory"))
    (start,) = read_starts(tmp_path)
    assert start["end"]["step"] == 4
    assert start["end"]["cause"] == ("finished" if finished else "RuntimeError: no memory")


@pytest.mark.parametrize(
    ("step", "max_steps", "cause"),
    [
        (9, 9, "finished"),
        (4, 4, "stopped by trainer.stop_after_steps"),
        (4, 9, "stopped by a callback"),
    ],
)
def test_a_run_that_ends_before_its_last_step_is_not_finished(tmp_path, step, max_steps, cause):
    callback = RunRecord(Config(), tmp_path, total_steps=9)
    trained = SimpleNamespace(**vars(trainer()) | {"global_step": step, "max_steps": max_steps})
    callback.setup(trained, None, "fit")
    callback.on_fit_end(trained, None)
    (start,) = read_starts(tmp_path)
    assert (start["total_steps"], start["end"]["step"]) == (9, step)
    assert start["end"]["cause"] == cause


def test_no_secret_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    command = ["python", "-m", "fit", "x=hf_0123456789abcdef", "data=s3://key:hunter22@bucket"]
    monkeypatch.setattr(sys, "orig_argv", command)
    callback = RunRecord(Config(), tmp_path)
    callback.setup(trainer(), None, "fit")
    callback.on_exception(trainer(), None, OSError("401 for hf_0123456789abcdef at https://u:p@h"))
    (start,) = read_starts(tmp_path)
    assert start["command"] == "python -m fit x=[secret] data=s3://[secret]@bucket"
    assert start["end"]["cause"] == "OSError: 401 for [secret] at https://[secret]@h"
    for path in tmp_path.iterdir():
        assert "0123456" not in path.read_text()
        assert "hunter22" not in path.read_text()


def test_the_folder_of_another_thing_has_no_starts(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run\.json: it is no folder of a run"):
        read_starts(tmp_path)


def test_the_guide_names_the_files_that_the_record_writes(tmp_path):
    RunRecord(Config(), tmp_path).setup(trainer(), None, "fit")
    guide = (tmp_path / GUIDE_FILE).read_text()
    named = {path.name for path in tmp_path.iterdir() if f"`{path.name}`" in guide}
    assert named == {"config.yaml", "run.json"}


def test_checkpoints_leave_the_hash_of_what_trains(tiny_language_model_folder, tmp_path):
    module = tiny_module(tiny_language_model_folder)
    callback = RunRecord(Config(), tmp_path)
    hashes = []
    for change in ("nothing", "a trained parameter", "a frozen one"):
        for name, value in module.reasoner.named_parameters():
            if (name in module.trainable) == (change == "a trained parameter"):
                value.data.add_(change != "nothing")
        callback.on_save_checkpoint(trainer(), module, {})
        hashes.append(read_weight_hashes(tmp_path)[4])
    assert hashes[0] != hashes[1] == hashes[2]
    with (tmp_path / "weights.jsonl").open("a") as file:
        file.write('{"step": 5, "ha')  # killed in the midst
    assert read_weight_hashes(tmp_path) == {4: hashes[2]}


def test_each_start_is_added(tmp_path):
    RunRecord(Config(), tmp_path).setup(trainer(), None, "fit")
    resumed = RunRecord(Config(), tmp_path, resumed_from="step-4.ckpt")
    resumed.setup(trainer(), None, "fit")
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, "step-4.ckpt"]


def test_consumed_samples_are_recorded_when_asked_for(tmp_path):
    RunRecord(Config(), tmp_path).on_train_batch_start(trainer(), None, {"ids": ["a"]}, 0)
    assert not list(tmp_path.iterdir())
    callback = RunRecord(Config(), tmp_path, record_samples=True)
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
