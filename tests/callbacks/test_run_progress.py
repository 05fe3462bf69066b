from types import SimpleNamespace

import pytest
import torch
from torch import nn

from callbacks import run_progress
from callbacks.run_progress import RunProgress, duration


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(run_progress, "rank_zero_info", lines.append)
    return lines


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(run_progress, "time", clock)
    return clock


def make_trainer(step, last):
    module = nn.Sequential(nn.Linear(100, 30), nn.Linear(100, 50))
    module[1].requires_grad_(False)
    optimizer = torch.optim.SGD(module[0].parameters(), lr=2.5e-4)
    trainer = SimpleNamespace(
        global_step=step,
        max_steps=last,
        is_global_zero=True,
        callback_metrics={"train/loss": torch.tensor(1.25)},
        optimizers=[optimizer],
    )
    return trainer, module


def test_a_run_says_where_it_begins_how_far_it_is_and_what_is_next(said, clock):
    trainer, module = make_trainer(100, 400)  # a resumed run
    callback = RunProgress(["stage 1"], ["vidreason ask"], seconds_between_lines=30)
    callback.on_train_start(trainer, module)
    assert said == [
        "stage 1\n  parameters that train: 3.0 k of 8.1 k\n  at step 100 of 400",
    ]
    for _ in range(40):
        clock.now += 2
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)
    # Two lines in 80 seconds, by the steps of this start alone.
    assert said[1:] == [
        "step 115 of 400 (29%), loss 1.250, learning rate 0.00025, 2 s a step, 10 min left",
        "step 130 of 400 (32%), loss 1.250, learning rate 0.00025, 2 s a step, 9 min left",
    ]
    trainer.global_step = 400
    callback.on_train_end(trainer, module)
    assert said[-1] == "trained 300 steps in 80 s; now at step 400\nnext:\n  vidreason ask"


def test_a_run_that_ends_early_names_no_next_command(said, clock):
    trainer, module = make_trainer(0, 400)
    callback = RunProgress([], ["vidreason ask"])
    callback.on_train_start(trainer, module)
    trainer.global_step = 7
    callback.on_train_end(trainer, module)
    assert said[-1] == "trained 7 steps in 0 s; now at step 7"


def test_on_a_terminal_the_bar_is_enough(said, clock, monkeypatch):
    monkeypatch.setattr(run_progress.sys.stderr, "isatty", lambda: True, raising=False)
    trainer, module = make_trainer(0, 400)
    callback = RunProgress([], seconds_between_lines=1)
    callback.on_train_start(trainer, module)
    clock.now += 50
    trainer.global_step = 1
    callback.on_train_batch_end(trainer, module, None, None, 0)
    assert len(said) == 1


def test_a_run_that_is_told_to_stop_is_not_said_to_be_at_its_end(said, clock):
    trainer, module = make_trainer(0, 4)
    callback = RunProgress([], total_steps=9)
    callback.on_train_start(trainer, module)
    trainer.global_step = 4
    callback.on_train_end(trainer, module)
    assert said[-1].splitlines()[1] == (
        "stopped by trainer.stop_after_steps=4, before the end at step 9; without it the same "
        "command goes on"
    )
    trainer.global_step = trainer.max_steps = 9
    callback.on_train_end(trainer, module)
    assert said[-1] == "trained 9 steps in 0 s; now at step 9"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (705_600, "8 d 4 h")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
