import math

import pytest
import torch
from torch import nn

from vidreason.training.optimizer import (
    OptimizerConfig,
    build_optimizer,
    build_schedule,
    learning_rate_ratio,
)


def test_the_defaults_are_the_papers():
    config = OptimizerConfig()
    assert (config.learning_rate, config.betas) == (1e-4, [0.9, 0.98])
    assert (config.weight_decay, config.warmup_steps) == (0.05, 2000)


def test_warm_up_then_half_a_cosine():
    config = OptimizerConfig(warmup_steps=4)
    rates = [learning_rate_ratio(step, 12, config) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.5)
    assert rates[11] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rates[12:] == [0.0, 0.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_cosine_may_end_above_zero():
    config = OptimizerConfig(warmup_steps=0, final_learning_rate_ratio=0.1)
    assert learning_rate_ratio(0, 10, config) == 1.0
    assert learning_rate_ratio(5, 10, config) == pytest.approx(0.55)
    assert learning_rate_ratio(10, 10, config) == pytest.approx(0.1)


def test_the_schedule_sets_the_optimizers_learning_rate():
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=2)
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(module, {"weight", "bias"}, config)
    schedule = build_schedule(optimizer, 6, config)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.4 * 0.8535534, 0.2, 0.4 * 0.1464466])


def test_groups_and_settings_of_adamw():
    module = nn.ModuleDict({"first": nn.Linear(3, 2), "norm": nn.LayerNorm(2)})
    module.queries = nn.Parameter(torch.zeros(4, 2))
    names = {"first.weight", "first.bias", "norm.weight", "queries"}
    optimizer = build_optimizer(module, names, OptimizerConfig())
    decayed, spared = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [p is module["first"].weight for p in decayed["params"]] == [True]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert {id(p) for p in spared["params"]} == {
        id(p) for p in (module["first"].bias, module["norm"].weight, module.queries)
    }
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8}


def test_a_warm_up_longer_than_the_run_is_refused():
    optimizer = build_optimizer(nn.Linear(2, 2), {"weight"}, OptimizerConfig())
    with pytest.raises(ValueError, match=r"warmup_steps 2000 is not below the run's 40"):
        build_schedule(optimizer, 40, OptimizerConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"betas": [0.9]}, r"betas is \[0.9\]"),
        ({"betas": [0.9, 1.0]}, "betas is"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm is 0.0"),
        ({"final_learning_rate_ratio": 2.0}, "final_learning_rate_ratio is 2.0"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**fields)
