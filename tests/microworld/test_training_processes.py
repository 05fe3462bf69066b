"""Training in several processes: the same result as in one, and one that is killed."""

import os
import signal

import pytest
import torch

from vidreason.microworld.pretraining import batch_numbers, minimise
from vidreason.microworld.training_processes import (
    process_rank,
    processes_of,
    sum_gradients,
    training_processes,
)

BATCHES = 4


def learn(steps, progress=None, report_every=2):
    """Least squares on batches that their numbers tell; return the losses and the weights."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)

    def losses(first):
        for number in batch_numbers(first, *process_rank()):
            rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
            yield {"square": (layer(rows) - rows[:, :2]).square().mean()}

    run = minimise(
        layer.parameters(),
        losses,
        {"square": 1.0},
        steps=steps,
        learning_rate=0.1,
        weight_decay=0.0,
        report_every=report_every,
        batches_per_step=BATCHES,
        progress=progress,
    )
    return list(run), [parameter.detach() for parameter in layer.parameters()]


def end_at_once():
    os.kill(os.getpid(), signal.SIGKILL)


def test_two_processes_learn_what_one_does(tmp_path):
    _, expected = learn(8)
    num_threads = torch.get_num_threads()
    progress = tmp_path / "progress.pt"
    with training_processes(2, learn, 8, progress):
        assert process_rank() == (0, 2)
        _, learnt = learn(8, progress)
    for ours, theirs in zip(learnt, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert torch.load(progress)["step"] == 8
    assert process_rank() == (0, 1)
    assert torch.get_num_threads() == num_threads


def test_processes_that_cannot_share_the_batches_are_refused(monkeypatch):
    monkeypatch.setattr("vidreason.microworld.pretraining.process_rank", lambda: (0, 3))
    with pytest.raises(ValueError, match=r"batches_per_step is 4; .* multiple of the 3"):
        learn(8)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_with_its_status():
    with (
        pytest.raises(RuntimeError, match="exit status -9"),
        training_processes(2, end_at_once),
    ):
        learn(8)
    assert process_rank() == (0, 1)


def test_one_process_needs_no_others(monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    with training_processes(1, end_at_once):
        sum_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
    monkeypatch.setattr("vidreason.microworld.training_processes.available_cores", lambda: 3)
    numbers = [processes_of(*each) for each in [(4, None), (4, 0), (4, 1), (4, 2), (4, 9), (6, 5)]]
    assert numbers == [2, 1, 1, 2, 4, 3]
