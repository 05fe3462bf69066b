"""``StepCheckpoint`` saves by step, and keeps the newest and the best checkpoints."""

import json
import os
from types import SimpleNamespace

import pytest
import torch

from callbacks.step_checkpoint import AtomicCheckpointIO, StepCheckpoint
from vidreason.training.checkpoint import newest_checkpoint
from vidreason.training.checkpoint_files import CheckpointWriteError


class FakeTrainer(SimpleNamespace):
    def save_checkpoint(self, path, weights_only):
        if self.full:
            raise CheckpointWriteError("the disk is full")
        AtomicCheckpointIO().save_checkpoint({"step": self.global_step}, path)
        self.saved.append(self.global_step)


def fake_trainer(max_steps=100):
    epoch_loop = SimpleNamespace(_should_check_val_fx=lambda fetcher: True)
    return FakeTrainer(
        **{"global_step": 0, "max_steps": max_steps, "saved": [], "full": False},
        **{"is_global_zero": True, "sanity_checking": False, "callback_metrics": {}},
        strategy=SimpleNamespace(barrier=lambda name: None),
        fit_loop=SimpleNamespace(_data_fetcher=None, epoch_loop=epoch_loop),
        _logger_connector=SimpleNamespace(update_train_step_metrics=lambda: None),
    )


def run_batches(callback, trainer, steps):
    for step in steps:
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, None, 0)


def validate(callback, trainer, scores, monitor="val/loss"):
    """Train to each step of ``scores``, and validate there."""
    for step, score in scores.items():
        run_batches(callback, trainer, [step])
        trainer.callback_metrics = {monitor: score}
        callback.on_validation_end(trainer, None)


def names(folder):
    return sorted(path.name for path in folder.glob("step-*"))


def step_name(number):
    return f"step-{number:08d}.ckpt"


def write(folder, step):
    path = folder / step_name(step)
    AtomicCheckpointIO().save_checkpoint({"step": step}, path)
    return path


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
    assert sorted(file.name for file in tmp_path.iterdir()) == [step_name(1), step_name(3)]


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
    assert names(tmp_path) == [step_name(6), step_name(7)]
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(7)


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


@pytest.mark.parametrize(("mode", "kept"), [("min", [1, 4]), ("max", [2, 5])])
def test_the_best_stay_beside_the_newest(tmp_path, mode, kept):
    callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=2, mode=mode)
    trainer = fake_trainer()
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {1: 2.0, 2: 9.0, 3: 5.0, 4: 3.0, 5: 7.0, 6: float("nan")})
    trainer.global_step = 7
    callback.on_train_end(trainer, None)
    assert names(tmp_path) == [step_name(number) for number in (*kept, 7)]
    assert os.readlink(tmp_path / "best.ckpt") == step_name(kept[0])
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(7)
    recorded = json.loads((tmp_path / "best.json").read_text())
    assert list(recorded["scores"]) == [step_name(kept[0]), step_name(kept[1])]


def test_a_resumed_run_knows_the_best(tmp_path):
    trainer = fake_trainer()
    for scores in ({1: 2.0, 2: 9.0}, {3: 5.0}, {4: 1.0}):
        callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=1)
        callback.on_train_start(trainer, None)
        validate(callback, trainer, scores)
        last = names(tmp_path)
    assert last == [step_name(4)]
    assert os.readlink(tmp_path / "best.ckpt") == step_name(4)
    # Values of another metric compare with nothing.
    callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=1, monitor="val/accuracy")
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {5: 0.3}, "val/accuracy")
    assert os.readlink(tmp_path / "best.ckpt") == step_name(5)


def test_nothing_is_saved_for_being_good_unless_asked_for(tmp_path):
    callback = StepCheckpoint(tmp_path, 100)
    trainer = fake_trainer()
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {1: 2.0})
    assert list(tmp_path.iterdir()) == []


def test_the_validation_before_training_does_not_count(tmp_path):
    callback = StepCheckpoint(tmp_path, 100, keep_best=1)
    trainer = fake_trainer()
    trainer.sanity_checking = True
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {0: 2.0})
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_not_logged_is_named(tmp_path):
    callback = StepCheckpoint(tmp_path, 100, keep_best=1, monitor="val/los")
    trainer = fake_trainer()
    callback.on_train_start(trainer, None)
    with pytest.raises(ValueError, match=r"'val/los', which validation does not log; .*val/loss"):
        validate(callback, trainer, {1: 2.0})


def test_a_failed_save_ends_the_run_and_leaves_the_former(tmp_path):
    callback = StepCheckpoint(tmp_path, 1)
    trainer = fake_trainer()
    callback.on_train_start(trainer, None)
    trainer.global_step = 1
    callback.save_once(trainer)
    trainer.full, trainer.global_step = True, 2
    with pytest.raises(CheckpointWriteError, match="the disk is full"):
        callback.save_once(trainer)
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(1)


def test_a_validation_before_the_first_step_of_another_runs_folder_keeps_nothing(tmp_path):
    callback = StepCheckpoint(tmp_path, 100, keep_best=1)
    trainer = fake_trainer()
    trainer.global_step = 3
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {3: 2.0})
    assert list(tmp_path.iterdir()) == []
