from types import SimpleNamespace

import pytest
import torch

from callbacks.occasions import StepEnds, validated


def reached(every_n_steps, steps, start=0):
    """The counter behind each micro-batch, for those that ended a step that counts."""
    ends = StepEnds(every_n_steps)
    ends.start(SimpleNamespace(global_step=start))
    trainers = [SimpleNamespace(global_step=step) for step in steps]
    return [trainer.global_step for trainer in trainers if ends.reached(trainer)]


@pytest.mark.parametrize(
    ("every_n_steps", "expected"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (0, [])]
)
def test_each_step_is_over_once_however_many_micro_batches_it_has(every_n_steps, expected):
    assert reached(every_n_steps, [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]) == expected


def test_the_first_micro_batch_behind_a_resume_ends_no_step():
    assert reached(2, [4, 5, 5, 6], start=4) == [6]


def test_a_metric_that_is_not_logged_is_named():
    metrics = {"val/loss": torch.tensor(2.5), "train/loss": torch.tensor(3.0)}
    assert validated(metrics, "val/loss", "trainer.monitor") == 2.5
    with pytest.raises(ValueError, match=r"trainer.monitor is 'val/los', .* train/loss, val/loss"):
        validated(metrics, "val/los", "trainer.monitor")
