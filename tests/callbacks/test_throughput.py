import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from callbacks import throughput
from callbacks.throughput import DataWaitTimer, Throughput
from vidreason.training.stage import StageModule

FETCH = "[_TrainingEpochLoop].train_dataloader_next"


class Clock:
    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def trainer_and_module(logged, world_size=1):
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor * world_size)
    trainer = SimpleNamespace(
        global_step=0,
        is_global_zero=True,
        strategy=strategy,
        datamodule=SimpleNamespace(num_unreadable=3),
    )
    module = Mock(spec=StageModule, device=torch.device("cpu"))
    module.trainer = SimpleNamespace(_results=None)  # nothing is logged yet
    module._current_fx_name = "on_train_batch_end"
    module.reasoner = SimpleNamespace(num_positions=lambda text: text["positions"])
    module.log = lambda key, value, **options: logged.__setitem__(key, value)
    return trainer, module


def batch(samples, target_tokens):
    text = {"target_ids": torch.zeros(target_tokens, dtype=torch.int64), "positions": (30, 40)}
    return {"ids": ["id"] * samples, "text": text}


def run_step(callback, timer, clock, trainer, module, *, wait, work):
    timer.start(FETCH)
    clock.now += wait
    timer.stop(FETCH)
    clock.now += work
    trainer.global_step += 1
    callback.on_train_batch_end(trainer, module, None, batch(4, 12), 0)


def test_rates_over_the_window_and_over_ranks(clock, tmp_path):
    logged = {}
    trainer, module = trainer_and_module(logged, world_size=2)
    timer = DataWaitTimer()
    callback = Throughput(timer, 2, tmp_path)
    callback.on_train_start(trainer, module)
    run_step(callback, timer, clock, trainer, module, wait=1.0, work=3.0)
    assert logged == {}
    callback.on_validation_start(trainer, module)
    clock.now += 1000.0
    callback.on_validation_end(trainer, module)
    run_step(callback, timer, clock, trainer, module, wait=1.0, work=3.0)
    assert logged == {
        "train/samples_per_second": 2.0,  # 2 steps x 4 samples x 2 ranks in 8 seconds
        "train/target_tokens_per_second": 6.0,
        "train/fill": 0.75,
        "train/data_wait_share": 0.25,
        "data/unreadable": 3.0,
    }


def test_totals_survive_a_resume(clock, tmp_path):
    trainer, module = trainer_and_module({})
    timer = DataWaitTimer()
    callback = Throughput(timer, 1, tmp_path)
    callback.on_train_start(trainer, module)
    run_step(callback, timer, clock, trainer, module, wait=1.0, work=3.0)
    resumed = Throughput(timer, 1, tmp_path)
    resumed.load_state_dict(callback.state_dict())
    resumed.on_train_start(trainer, module)
    run_step(resumed, timer, clock, trainer, module, wait=0.0, work=2.0)
    assert resumed.totals == {
        "samples": 8.0,
        "target_tokens": 24.0,
        "positions": 60.0,
        "computed_positions": 80.0,
        "seconds": 6.0,
        "waited_seconds": 1.0,
    }


def test_the_table_of_a_run_that_was_resumed(clock, tmp_path):
    """20 steps: 10 of 1 s, validated amidst, and then 9 of 2 s and one of 21."""
    trainer, module = trainer_and_module({}, world_size=2)
    timer = DataWaitTimer()
    first = Throughput(timer, 5, tmp_path)
    first.on_train_start(trainer, module)
    for _ in range(10):
        run_step(first, timer, clock, trainer, module, wait=0.25, work=0.75)
        first.on_validation_start(trainer, module)
        clock.now += 50.0
        first.on_validation_end(trainer, module)
    resumed = Throughput(timer, 7, tmp_path)
    resumed.load_state_dict(first.state_dict())
    resumed.on_train_start(trainer, module)
    for work in [2.0] * 9 + [21.0]:
        run_step(resumed, timer, clock, trainer, module, wait=0.0, work=work)
    resumed.on_train_end(trainer, module)  # also what came behind the last look
    table = json.loads((tmp_path / "speed.json").read_text())
    assert table.pop("peak_memory_gib") > 0.01
    assert table == pytest.approx(
        {
            "steps": 20,
            "median_step_seconds": 1.0,
            "p95_step_seconds": 2.0,
            "fill": 0.75,
            "data_wait_share": 2.5 / 49,
            "samples_per_second": 2 * 20 * 4 / 49,
            "target_tokens_per_second": 2 * 20 * 12 / 49,
        },
        rel=0.01,
    )


def test_only_training_fetches_count_as_waiting(clock):
    timer = DataWaitTimer()
    timer.start("[_EvaluationLoop].val_next")
    clock.now += 5.0
    timer.stop("[_EvaluationLoop].val_next")
    assert timer.seconds == 0.0
