import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks.step_checkpoint import AtomicCheckpointIO, StepCheckpoint
from vidreason.training.checkpoint import newest_checkpoint


def write(folder: Path, step: int) -> Path:
    path = folder / f"step-{step:08d}.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": step}, path)
    return path


class FakeTrainer(SimpleNamespace):
    def save_checkpoint(self, path, weights_only):
        AtomicCheckpointIO().save_checkpoint({"step": self.global_step}, path)
        self.saved.append(self.global_step)


def fake_trainer(max_steps=7):
    connector = SimpleNamespace(update_train_step_metrics=lambda: None)
    return FakeTrainer(
        global_step=0,
        max_steps=max_steps,
        is_global_zero=True,
        saved=[],
        _logger_connector=connector,
    )


def run_batches(callback, trainer, steps):
    for step in steps:
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, None, 0)


def test_a_crash_in_the_middle_of_a_save_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    path = write(tmp_path, 1)

    def crash(descriptor):
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="killed here"):
            AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert newest_checkpoint(tmp_path) == path
    write(tmp_path, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "step-00000001.ckpt",
        "step-00000003.ckpt",
    ]


def test_a_torn_file_is_never_taken_for_a_checkpoint(tmp_path):
    good = write(tmp_path, 1)
    torn = write(tmp_path, 2)
    torn.write_bytes(torn.read_bytes()[:-30])
    (tmp_path / "last.ckpt").symlink_to(torn.name)
    assert newest_checkpoint(tmp_path) == good


def test_an_empty_or_missing_folder_holds_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "absent") is None


def test_the_checkpoint_written_last_counts_even_if_its_step_is_lower(tmp_path):
    # As after a resume from an older checkpoint: higher steps are of an abandoned history.
    write(tmp_path, 9)
    older = write(tmp_path, 4)
    (tmp_path / "last.ckpt").symlink_to(older.name)
    assert newest_checkpoint(tmp_path) == older


def test_saves_on_the_interval_and_at_the_last_step_and_keeps_the_newest(tmp_path):
    callback = StepCheckpoint(tmp_path, save_every_n_steps=2, keep=2)
    trainer = fake_trainer(max_steps=7)
    callback.on_train_start(trainer, None)
    run_batches(callback, trainer, range(1, 8))
    callback.on_train_end(trainer, None)
    assert trainer.saved == [2, 4, 6, 7]
    assert sorted(file.name for file in tmp_path.glob("step-*")) == [
        "step-00000006.ckpt",
        "step-00000007.ckpt",
    ]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000007.ckpt"


def test_micro_batches_after_a_resume_are_not_saved(tmp_path):
    callback = StepCheckpoint(tmp_path, save_every_n_steps=2)
    trainer = fake_trainer()
    trainer.global_step = 4
    callback.on_train_start(trainer, None)
    run_batches(callback, trainer, [4, 4, 5, 5, 6, 6])
    assert trainer.saved == [6]


def test_training_that_ends_early_is_saved_at_its_end(tmp_path):
    callback = StepCheckpoint(tmp_path, save_every_n_steps=100)
    trainer = fake_trainer(max_steps=50)
    callback.on_train_start(trainer, None)
    run_batches(callback, trainer, [1, 2, 3])
    callback.on_train_end(trainer, None)
    assert trainer.saved == [3]
