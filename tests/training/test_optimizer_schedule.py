import math

import pytest
import torch
from torch import nn

from vidreason.training.optimizer import (
    OptimizerConfig,
    build_optimizer,
    build_schedule,
    gradient_norms,
    learning_rate_ratio,
    learning_rates,
)


def three_parts() -> nn.Module:
    """Parameters under the names that a reasoner's parts have."""
    module = nn.ModuleDict({"fusion": nn.Module(), "language_model": nn.Module()})
    module.fusion.queries = nn.Parameter(torch.zeros(4, 2))
    module.fusion.first, module.fusion.norm = nn.Linear(3, 2), nn.LayerNorm(2)
    module.language_model.layer = nn.Linear(2, 2)
    module.language_model.lora_A = nn.Linear(2, 1, bias=False)
    return module


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
    config.learning_rate_factors["lora"] = 0.5
    module = three_parts()
    optimizer = build_optimizer(module, set(dict(module.named_parameters())), config)
    schedule = build_schedule(optimizer, 6, config)
    rates = []
    for _ in range(6):
        rates.append(learning_rates(optimizer))
        optimizer.step()
        schedule.step()
    expected = [0.2, 0.4, 0.4, 0.4 * 0.8535534, 0.2, 0.4 * 0.1464466]
    for rate, of_step in zip(expected, rates, strict=True):
        parts = {"fusion": rate, "lora": rate / 2, "language_model": rate}
        assert of_step == pytest.approx(parts)


def test_groups_and_settings_of_adamw():
    module = three_parts()
    parameters = dict(module.named_parameters())
    optimizer = build_optimizer(module, parameters.keys() - {"fusion.norm.bias"}, OptimizerConfig())
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in parameters.items()}
    groups = [
        (group["part"], group["weight_decay"], [names[id(p)] for p in group["params"]])
        for group in optimizer.param_groups
    ]
    assert groups == [
        ("fusion", 0.05, ["fusion.first.weight"]),
        ("lora", 0.05, ["language_model.lora_A.weight"]),
        ("language_model", 0.05, ["language_model.layer.weight"]),
        ("fusion", 0.0, ["fusion.queries", "fusion.first.bias", "fusion.norm.weight"]),
        ("language_model", 0.0, ["language_model.layer.bias"]),
    ]
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8}


def test_the_length_of_each_parts_gradient():
    module = three_parts()
    optimizer = build_optimizer(module, dict(module.named_parameters()), OptimizerConfig())
    assert gradient_norms(optimizer) == {}
    module.fusion.first.weight.grad = torch.full((2, 3), 2.0)
    module.fusion.queries.grad = torch.ones(4, 2)
    module.language_model.lora_A.weight.grad = torch.full((1, 2), -3.0)
    norms = {part: norm.item() for part, norm in gradient_norms(optimizer).items()}
    assert norms == pytest.approx({"fusion": math.sqrt(6 * 4 + 8), "lora": math.sqrt(18)})


def test_a_factor_for_a_part_that_does_not_train_is_refused():
    module = three_parts()
    names = {name for name in dict(module.named_parameters()) if name.startswith("fusion.")}
    config = OptimizerConfig(learning_rate_factors={"lora": 0.5})
    with pytest.raises(ValueError, match="factors names lora, but this stage trains fusion; take"):
        build_optimizer(module, names, config)


def test_a_warm_up_longer_than_the_run_is_refused():
    optimizer = build_optimizer(three_parts(), {"fusion.first.weight"}, OptimizerConfig())
    with pytest.raises(ValueError, match=r"warmup_steps 2000 is not below the run's 40"):
        build_schedule(optimizer, 40, OptimizerConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"betas": [0.9]}, r"betas is \[0.9\]"),
        ({"betas": [0.9, 1.0]}, "betas is"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"learning_rate_factors": {"lora": 0.0}}, "gives 'lora' 0.0"),
        ({"learning_rate_factors": {"head": 2.0}}, "gives 'head' 2.0; it names fusion, lora"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm is 0.0"),
        ({"final_learning_rate_ratio": 2.0}, "final_learning_rate_ratio is 2.0"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**fields)
