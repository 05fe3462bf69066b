from types import SimpleNamespace

import pytest
import torch

from callbacks.step_callback import StepCallback, logged_metric


class Recorder(StepCallback):
    def __init__(self, every_n_steps):
        self.every_n_steps = every_n_steps
        self.steps = []

    def on_step_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


def ended(every_n_steps, counters, start=0):
    """Steps that are reported for the trainer's counter after each micro-batch."""
    recorder, trainer = Recorder(every_n_steps), SimpleNamespace(global_step=start)
    recorder.on_train_start(trainer, None)
    for trainer.global_step in counters:
        recorder.on_train_batch_end(trainer, None, None, None, 0)
    return recorder.steps


@pytest.mark.parametrize(
    ("every_n_steps", "expected"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (0, [])]
)
def test_each_step_ends_once_however_many_micro_batches_it_has(every_n_steps, expected):
    assert ended(every_n_steps, [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]) == expected


def test_the_first_micro_batch_after_a_resume_ends_no_step():
    assert ended(2, [4, 5, 5, 6], start=4) == [6]


def test_a_metric_that_is_not_logged_is_named():
    metrics = {"val/loss": torch.tensor(2.5), "train/loss": torch.tensor(3.0)}
    assert logged_metric(metrics, "val/loss", "trainer.monitor") == 2.5
    with pytest.raises(ValueError, match=r"trainer.monitor is 'val/los', .* train/loss, val/loss"):
        logged_metric(metrics, "val/los", "trainer.monitor")
