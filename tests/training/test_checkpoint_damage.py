"""Damage is found before a checkpoint is used, and what is not finite is never saved as good."""

import hashlib
import logging
import math
import os
import shutil

import pytest
import torch
from test_checkpoint_files import WRITERS, assert_same, checkpoint_of

from vidreason.training import checkpoint_damage
from vidreason.training.atomic_checkpoint import CheckpointWriteError
from vidreason.training.checkpoint import newest_checkpoint, read_record_alone
from vidreason.training.checkpoint_damage import SUMS_FILE, damage
from vidreason.training.checkpoint_files import (
    read_checkpoint,
    read_weights_and_record,
    write_file,
)

RECORD = {
    "format_version": 3,
    **{"stage": "alignment", "config": {}, "frozen": {}, "trainable": [], "world_size": 1},
    "rng": [],
}


def recorded(step):
    return {**checkpoint_of(step, 2000), "vidreason": RECORD}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A file and a folder that are whole; only to be copied."""
    folder = tmp_path_factory.mktemp("sound")
    for form, write in WRITERS.items():
        write(recorded(1), folder / form / "step-00000001.ckpt")
        write(recorded(2), folder / form / "step-00000002.ckpt")
    return folder


@pytest.fixture
def copies(sound, tmp_path):
    def copy(form):
        shutil.copytree(sound / form, tmp_path / form)
        return tmp_path / form

    return copy


def zeros(content, start, length=200):
    return content[:start] + bytes(length) + content[start + length :]


def flipped(content, offset):
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]


HARM = {
    "zeros in the middle": lambda content: zeros(content, len(content) // 2),
    "zeros to the end": lambda content: zeros(content, 1000, len(content) - 1000),
    "all zeros": lambda content: bytes(len(content)),
    "first byte": lambda content: flipped(content, 0),
    "a byte of the pickle": lambda content: flipped(content, 300),
    "a byte of a tensor": lambda content: flipped(content, len(content) // 2),
    "a byte of the directory": lambda content: flipped(content, len(content) - 300),
    "a byte of the digest": lambda content: flipped(content, len(content) - 5),
    "a byte before the digest": lambda content: flipped(content, len(content) - 75),
    "without its digest": lambda content: content[:-83] + bytes(2),
    "last byte cut": lambda content: content[:-1],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a byte more": lambda content: content + b"x",
    "another file's end": lambda content: content[: len(content) // 2] + content[100:],
}


@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_file_is_not_used(copies, caplog, harm):
    folder = copies("file")
    path = folder / "step-00000002.ckpt"
    path.write_bytes(HARM[harm](path.read_bytes()))
    (folder / "last.ckpt").symlink_to(path.name)
    for read in (read_checkpoint, read_weights_and_record, read_record_alone):
        with pytest.raises(ValueError, match=r"step-00000002.* cannot be read") as error:
            read(path)
        assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(folder) == folder / "step-00000001.ckpt"
    warnings = [r.getMessage() for r in caplog.records if "step-00000002.ckpt" in r.getMessage()]
    assert len(warnings) == 1
    assert "using" in warnings[0]
    assert "step-00000001.ckpt" in warnings[0]


def exchange(folder, name):
    other = folder.with_name("step-00000001.ckpt") / name
    (folder / name).write_bytes(other.read_bytes())


FOLDER_HARM = {
    "zeros in a shard": lambda f: (f / "__0_0.distcp").write_bytes(
        zeros((f / "__0_0.distcp").read_bytes(), 5000)
    ),
    "shard missing": lambda f: (f / "__0_0.distcp").unlink(),
    "shard of another checkpoint": lambda f: exchange(f, "__0_0.distcp"),
    "rest of another checkpoint": lambda f: exchange(f, "meta.pt"),
    "list of another checkpoint": lambda f: exchange(f, SUMS_FILE),
    "list missing": lambda f: (f / SUMS_FILE).unlink(),
    "list empty": lambda f: (f / SUMS_FILE).write_bytes(b""),
    "list cut": lambda f: (f / SUMS_FILE).write_text((f / SUMS_FILE).read_text()[:100]),
    "list of zeros": lambda f: (f / SUMS_FILE).write_bytes(bytes(200)),
    "rest missing": lambda f: (f / "meta.pt").unlink(),
}


@pytest.mark.parametrize("harm", FOLDER_HARM)
def test_a_harmed_folder_is_not_used(copies, harm):
    folder = copies("folder")
    path = folder / "step-00000002.ckpt"
    FOLDER_HARM[harm](path)
    for read in (read_checkpoint, read_record_alone):
        with pytest.raises(ValueError, match=r"step-00000002\.ckpt") as error:
            read(path)
        assert "\n" not in str(error.value)
    assert newest_checkpoint(folder) == folder / "step-00000001.ckpt"


def test_a_folders_list_is_that_of_sha256sum(sound):
    folder = sound / "folder" / "step-00000001.ckpt"
    lines = (folder / SUMS_FILE).read_text().splitlines()
    names = {"meta.pt", ".metadata", "__0_0.distcp"}
    assert {line.split("  ")[1] for line in lines} == names
    for line in lines:
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_files_of_others_in_a_folder_harm_nothing(copies):
    folder = copies("folder")
    (folder / "step-00000002.ckpt" / ".nfs0001").write_text("held open")
    (folder / "step-00000002.ckpt" / "notes.txt").write_text("mine")
    assert newest_checkpoint(folder) == folder / "step-00000002.ckpt"


def test_a_copy_under_another_name_is_sound(copies):
    folder = copies("file")
    shutil.copy(folder / "step-00000002.ckpt", folder / "mine.ckpt")
    assert damage(folder / "mine.ckpt") == ""
    assert_same(read_checkpoint(folder / "mine.ckpt"), recorded(2))


def test_a_link_to_nothing(copies, caplog):
    folder = copies("file")
    (folder / "last.ckpt").symlink_to("step-00000009.ckpt")
    assert newest_checkpoint(folder) == folder / "step-00000002.ckpt"
    assert "last.ckpt: it links to step-00000009.ckpt, which is missing" in caplog.text


@pytest.mark.parametrize("form", WRITERS)
def test_where_all_are_damaged_nothing_begins_anew(copies, form):
    folder = copies(form)
    for path in folder.iterdir():
        harmed = path if path.is_file() else path / "meta.pt"
        harmed.write_bytes(harmed.read_bytes()[:-10])
    with pytest.raises(
        ValueError, match=r"all checkpoints .*step-00000002.*step-00000001"
    ) as error:
        newest_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_a_process_looks_at_a_file_once_until_it_changes(copies, monkeypatch):
    path = copies("file") / "step-00000002.ckpt"
    looks = []
    look = checkpoint_damage._file_damage
    monkeypatch.setattr(
        checkpoint_damage, "_file_damage", lambda path: looks.append(path) or look(path)
    )
    for _ in range(3):
        read_checkpoint(path)
    assert looks == [path]
    content = path.read_bytes()
    path.write_bytes(flipped(content, 5000))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1000))
    assert damage(path)
    write_file(recorded(3), path)
    assert damage(path) == ""
    assert looks == [path, path]  # what this process has written itself is not read back


# What is not finite is not written.


def poisoned(where, value):
    content = recorded(2)
    content["average"] = {n: v.float().clone() for n, v in content["state_dict"].items()}
    if where == "weight":
        content["state_dict"]["reasoner.b"][2] = value
    elif where == "average":
        content["average"]["reasoner.fusion.a.weight"][7, 1] = value
    else:
        content["optimizer_states"][0]["state"]["reasoner.fusion.a.weight"][where].fill_(value)
    return content


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["weight", "average", "exp_avg"])
def test_what_is_not_finite_replaces_nothing(tmp_path, form, where, value):
    path = tmp_path / "step-00000001.ckpt"
    WRITERS[form](recorded(1), path)
    with pytest.raises(CheckpointWriteError, match=r"is not written: .*infinite or not a num") as e:
        WRITERS[form](poisoned(where, value), path)
    assert "\n" not in str(e.value)
    assert_same(read_checkpoint(path), recorded(1))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_callbacks_keep_may_be_infinite(tmp_path):
    content = {
        **recorded(1),
        "callbacks": {"EarlyStopping": {"best_score": torch.tensor(math.inf)}},
    }
    content["state_dict"]["reasoner.empty"] = torch.empty(0, 3)
    content["state_dict"]["reasoner.counts"] = torch.tensor([2**40])
    for form, write in WRITERS.items():
        write(content, tmp_path / form)
        assert_same(read_checkpoint(tmp_path / form), content)


def test_a_record_is_read_alone(sound):
    for form in WRITERS:
        assert read_record_alone(sound / form / "step-00000002.ckpt")["stage"] == "alignment"
    with pytest.raises(ValueError, match="there is no checkpoint"):
        read_record_alone(sound / "absent.ckpt")
