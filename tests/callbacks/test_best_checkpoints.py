"""``StepCheckpoint`` keeps the checkpoints of the best validations."""

import json
import os
from types import SimpleNamespace

import pytest

from callbacks.step_checkpoint import AtomicCheckpointIO, StepCheckpoint
from vidreason.training.checkpoint import newest_checkpoint
from vidreason.training.checkpoint_files import CheckpointWriteError


class FakeTrainer(SimpleNamespace):
    def save_checkpoint(self, path, weights_only):
        if self.full:
            raise CheckpointWriteError("the disk is full")
        AtomicCheckpointIO().save_checkpoint({"step": self.global_step}, path)


def fake_trainer():
    return FakeTrainer(
        global_step=0,
        max_steps=100,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics={},
        full=False,
        strategy=SimpleNamespace(barrier=lambda name: None),
        fit_loop=SimpleNamespace(
            _data_fetcher=None,
            epoch_loop=SimpleNamespace(_should_check_val_fx=lambda fetcher: True),
        ),
        _logger_connector=SimpleNamespace(update_train_step_metrics=lambda: None),
    )


def validate(callback, trainer, scores, monitor="val/loss"):
    """Train to each step of ``scores``, and validate there."""
    for step, score in scores.items():
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, None, 0)
        trainer.callback_metrics = {monitor: score}
        callback.on_validation_end(trainer, None)


def names(folder):
    return sorted(path.name for path in folder.glob("step-*"))


def step(number):
    return f"step-{number:08d}.ckpt"


@pytest.mark.parametrize(("mode", "kept"), [("min", [1, 4]), ("max", [2, 5])])
def test_the_best_stay_beside_the_newest(tmp_path, mode, kept):
    callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=2, mode=mode)
    trainer = fake_trainer()
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {1: 2.0, 2: 9.0, 3: 5.0, 4: 3.0, 5: 7.0, 6: float("nan")})
    trainer.global_step = 7
    callback.on_train_end(trainer, None)
    assert names(tmp_path) == [step(number) for number in (*kept, 7)]
    assert os.readlink(tmp_path / "best.ckpt") == step(kept[0])
    assert newest_checkpoint(tmp_path) == tmp_path / step(7)
    recorded = json.loads((tmp_path / "best.json").read_text())
    assert list(recorded["scores"]) == [step(kept[0]), step(kept[1])]


def test_a_resumed_run_knows_the_best(tmp_path):
    trainer = fake_trainer()
    for scores in ({1: 2.0, 2: 9.0}, {3: 5.0}, {4: 1.0}):
        callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=1)
        callback.on_train_start(trainer, None)
        validate(callback, trainer, scores)
        last = names(tmp_path)
    assert last == [step(4)]
    assert os.readlink(tmp_path / "best.ckpt") == step(4)
    # Values of another metric compare with nothing.
    callback = StepCheckpoint(tmp_path, 100, keep=1, keep_best=1, monitor="val/accuracy")
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {5: 0.3}, "val/accuracy")
    assert os.readlink(tmp_path / "best.ckpt") == step(5)


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
    assert newest_checkpoint(tmp_path) == tmp_path / step(1)


def test_a_validation_before_the_first_step_of_another_runs_folder_keeps_nothing(tmp_path):
    callback = StepCheckpoint(tmp_path, 100, keep_best=1)
    trainer = fake_trainer()
    trainer.global_step = 3
    callback.on_train_start(trainer, None)
    validate(callback, trainer, {3: 2.0})
    assert list(tmp_path.iterdir()) == []
