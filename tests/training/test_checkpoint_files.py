"""Checkpoints on the disk: both forms, what damages them, and saves that do not come to an end."""

import errno
import io
import pickle
import random
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import state_dict_saver

from vidreason.training import atomic_checkpoint, checkpoint_files
from vidreason.training.atomic_checkpoint import CheckpointWriteError
from vidreason.training.checkpoint import newest_checkpoint
from vidreason.training.checkpoint_damage import is_complete
from vidreason.training.checkpoint_files import (
    prepare_folder,
    publish_folder,
    read_checkpoint,
    read_weights_and_record,
    remove_checkpoint,
    write_file,
    write_folder,
)

WRITERS = {"file": write_file, "folder": write_folder}


def checkpoint_of(step, size=5):
    """A checkpoint in which all values are ``step``."""

    def value(*shape):
        return torch.full(shape, float(step))

    fields = {"step": value(), "exp_avg": value(size, 2), "flag": True}
    return {
        "global_step": step,
        "state_dict": {
            "reasoner.fusion.a.weight": value(size, 2),
            "reasoner.b": value(3).bfloat16(),
        },
        "optimizer_states": [
            {
                "state": {"reasoner.fusion.a.weight": fields},
                "param_groups": [{"lr": 0.1, "betas": (0.9, 0.98), "params": ["reasoner.b"]}],
            }
        ],
        "lr_schedulers": [{"last_epoch": step}],
        "TheDataModule": {"epoch": 1, "num_consumed": 8 * step},
    }


def assert_same(value, expected):
    assert type(value) is type(expected)
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key, other in expected.items():
            assert_same(value[key], other)
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for first, second in zip(value, expected, strict=True):
            assert_same(first, second)
    elif isinstance(expected, torch.Tensor):
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected)
    else:
        assert value == expected


@pytest.mark.parametrize("form", WRITERS)
def test_what_is_written_is_read(tmp_path, form):
    path = tmp_path / "checkpoints" / "step-00000003.ckpt"
    WRITERS[form](checkpoint_of(3), path)
    assert path.is_dir() == (form == "folder")
    assert is_complete(path)
    assert_same(read_checkpoint(path), checkpoint_of(3))
    weights = read_weights_and_record(path)
    assert_same(weights["state_dict"], checkpoint_of(3)["state_dict"])
    assert weights["TheDataModule"] == {"epoch": 1, "num_consumed": 24}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("form", WRITERS)
def test_an_average_is_kept_beside_what_trains_and_answers_for_it(tmp_path, form):
    average = {name: v.float() + 0.5 for name, v in checkpoint_of(3)["state_dict"].items()}
    averaged = {**checkpoint_of(3), "average": average}
    WRITERS[form](averaged, tmp_path / "a.ckpt")
    assert_same(read_checkpoint(tmp_path / "a.ckpt"), averaged)
    answering = read_weights_and_record(tmp_path / "a.ckpt")["state_dict"]
    expected = {**average, "reasoner.b": average["reasoner.b"].bfloat16()}
    assert_same(answering, expected)


@pytest.mark.parametrize("first", WRITERS)
@pytest.mark.parametrize("second", WRITERS)
def test_a_checkpoint_is_replaced_by_one_of_any_form(tmp_path, first, second):
    path = tmp_path / "step-00000003.ckpt"
    WRITERS[first](checkpoint_of(1), path)
    WRITERS[second](checkpoint_of(2), path)
    assert read_checkpoint(path)["global_step"] == 2
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_newest_may_be_a_folder(tmp_path):
    write_file(checkpoint_of(1), tmp_path / "step-00000001.ckpt")
    write_folder(checkpoint_of(2), tmp_path / "step-00000002.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000002.ckpt"
    (tmp_path / "last.ckpt").symlink_to("step-00000002.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000002.ckpt"
    (tmp_path / "step-00000002.ckpt" / "meta.pt").unlink()
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001.ckpt"


def test_what_deepspeed_wrote_counts_and_is_not_read_as_ours(tmp_path):
    folder = tmp_path / "step-00000004.ckpt"
    partial = prepare_folder(folder)
    partial.mkdir()
    (partial / "latest").write_text("checkpoint")
    publish_folder(folder)
    assert newest_checkpoint(tmp_path) == folder
    with pytest.raises(
        ValueError, match=r"a folder of DeepSpeed.*experiments\.checkpoint consolid"
    ):
        read_checkpoint(folder)


@pytest.mark.parametrize("form", WRITERS)
def test_a_removal_that_is_cut_off_leaves_no_checkpoint(tmp_path, monkeypatch, form):
    path = tmp_path / "step-00000001.ckpt"
    WRITERS[form](checkpoint_of(1), path)

    def crash(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            remove_checkpoint(path)
    assert newest_checkpoint(tmp_path) is None
    WRITERS[form](checkpoint_of(2), tmp_path / "step-00000002.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000002.ckpt"]


class Attack:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("damage", ["cut", "attack", "other", "absent", "no checkpoint"])
@pytest.mark.parametrize("form", [".metadata", "meta.pt", "shard", "file"])
def test_damage_is_said_and_nothing_is_run(tmp_path, capsys, form, damage):
    path = tmp_path / "a.ckpt"
    WRITERS["file" if form == "file" else "folder"](checkpoint_of(1), path)
    damaged = path if form == "file" else path / (form if form != "shard" else "__0_0.distcp")
    content = damaged.read_bytes()
    if damage == "cut":
        damaged.write_bytes(content[: len(content) // 2])
    elif damage == "attack" and form == ".metadata":
        damaged.write_bytes(pickle.dumps(Attack()))
    elif damage == "attack":
        buffer = io.BytesIO()
        torch.save(Attack(), buffer)
        damaged.write_bytes(buffer.getvalue())
    elif damage == "other":
        damaged.write_bytes(b"0123" * 2000)
    elif damage == "absent":
        damaged.unlink()
    elif form == "file":
        torch.save({"model": torch.ones(2)}, damaged)
    else:
        return  # of a folder, another program's is one without our files: absent
    with pytest.raises(ValueError, match=r"(cannot be read|no checkpoint|there is no) ?.*"):
        read_checkpoint(path)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("where", ["data", "flush", "name"])
def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch, form, where):
    former = tmp_path / "step-00000001.ckpt"
    WRITERS[form](checkpoint_of(1), former)

    def no_space(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "flush":
            patch.setattr(atomic_checkpoint.os, "fsync", no_space)
        elif where == "name":
            patch.setattr(atomic_checkpoint.os, "replace", no_space)
        elif form == "file":
            patch.setattr(torch, "save", no_space)
        else:
            patch.setattr(state_dict_saver, "save", no_space)
        with pytest.raises(
            CheckpointWriteError, match=r"step-00000002.*No space left.*GB are free"
        ):
            WRITERS[form](checkpoint_of(2), tmp_path / "step-00000002.ckpt")
    assert newest_checkpoint(tmp_path) == former
    assert_same(read_checkpoint(former), checkpoint_of(1))
    assert [file.name for file in tmp_path.iterdir()] == [former.name]


FULL = """
import resource, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_checkpoint_files import WRITERS, checkpoint_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
WRITERS[{form!r}](checkpoint_of(2, 100_000), Path({path!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_the_operating_systems_refusal_is_said(tmp_path, form):
    """Files may have 50 kB and no more, in a process of its own: a write fails in mid-file."""
    former, path = tmp_path / "step-00000001.ckpt", tmp_path / "step-00000002.ckpt"
    WRITERS[form](checkpoint_of(1), former)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = FULL.format(paths=paths, form=form, path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "CheckpointWriteError: the checkpoint" in done.stderr
    assert "File too large" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [former.name]


def save_for_ever(form, folder, step):
    while True:
        step += 1
        WRITERS[form](checkpoint_of(step, 200_000), folder / f"step-{step:08d}.ckpt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # the child only saves
@pytest.mark.parametrize("form", WRITERS)
def test_killed_at_random_points_of_saves_only_whole_ones_are_left(tmp_path, form):
    """SIGKILL of a process that does nothing but save, 20 times; each time it goes on."""
    moments = random.Random(6)
    step = num_cut = 0
    for _ in range(20):
        process = get_context("fork").Process(target=save_for_ever, args=(form, tmp_path, step))
        process.start()
        time.sleep(moments.uniform(0.02, 0.3))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        num_cut += any(file.name.endswith(".partial") for file in tmp_path.iterdir())
        for path in tmp_path.glob("step-*.ckpt"):
            number = int(path.stem.removeprefix("step-"))
            assert_same(read_checkpoint(path), checkpoint_of(number, 200_000))
            step = max(step, number)
        newest = newest_checkpoint(tmp_path)
        assert step == 0 or newest == tmp_path / f"step-{step:08d}.ckpt"
        for path in sorted(tmp_path.glob("step-*.ckpt"))[:-1]:
            remove_checkpoint(path)
    assert step > 0
    assert num_cut > 0  # else no kill came in the middle of a save, and nothing was shown
