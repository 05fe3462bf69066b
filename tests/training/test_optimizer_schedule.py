import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from vidreason.training.optimizer import (
    OptimizerConfig,
    Schedule,
    build_optimizer,
    build_schedule,
    gradient_norms,
    join_schedule,
    learning_rate_ratio,
    learning_rates,
    num_warmup_steps,
)
from vidreason.training.step_metrics import optimizer_metrics


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
    assert config.weight_decay == 0.05
    assert num_warmup_steps(78_125, config) == 2000


def test_a_small_run_has_a_small_warm_up():
    config = OptimizerConfig()
    warmups = [num_warmup_steps(steps, config) for steps in (0, 19, 40, 39_999, 40_000, 10**6)]
    assert warmups == [0, 0, 2, 1999, 2000, 2000]
    rates = [learning_rate_ratio(step, 40, config) for step in range(4)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[3] < 1
    optimizer = build_optimizer(three_parts(), {"fusion.first.weight"}, config)
    assert build_schedule(optimizer, 40, config).get_last_lr()[0] == pytest.approx(0.5e-4)


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


def test_a_step_that_is_left_out_has_no_gradient_to_log_whatever_was_measured():
    module = three_parts()
    optimizer = build_optimizer(module, dict(module.named_parameters()), OptimizerConfig())
    measured = {"fusion": torch.tensor(2.0)}
    assert "train/gradient_norm_fusion" not in optimizer_metrics(optimizer, measured)
    module.fusion.queries.grad = torch.ones(4, 2)
    assert optimizer_metrics(optimizer, measured)["train/gradient_norm_fusion"] == 2.0


def test_a_factor_for_a_part_that_does_not_train_is_refused():
    module = three_parts()
    names = {name for name in dict(module.named_parameters()) if name.startswith("fusion.")}
    config = OptimizerConfig(learning_rate_factors={"lora": 0.5})
    with pytest.raises(ValueError, match="factors names lora, but this stage trains fusion; take"):
        build_optimizer(module, names, config)


def test_a_warm_up_longer_than_the_run_is_refused():
    optimizer = build_optimizer(three_parts(), {"fusion.first.weight"}, OptimizerConfig())
    with pytest.raises(ValueError, match=r"warmup_steps 2000 is not below the run's 40"):
        build_schedule(optimizer, 40, OptimizerConfig(warmup_steps=2000))


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


def rates_of(schedule, steps):
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return rates


def schedule_of(total_steps, loaded=None, **fields):
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = OptimizerConfig(warmup_steps=3, **fields)
    schedule = build_schedule(optimizer, total_steps, config)
    if loaded is not None:
        schedule.load_state_dict(torch.load(loaded, weights_only=True))
    return schedule


@pytest.fixture
def stopped_at(tmp_path):
    def stop(step, total_steps, **fields):
        schedule = schedule_of(total_steps, **fields)
        rates = rates_of(schedule, step)
        torch.save(schedule.state_dict(), tmp_path / "schedule.pt")
        return rates, tmp_path / "schedule.pt"

    return stop


@pytest.mark.parametrize("step", [2, 5, 10])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_a_run_that_is_made_longer_has_no_step_without_a_rate_and_no_jump(stopped_at, step, final):
    rates, state = stopped_at(step, 10, final_learning_rate_ratio=final)
    longer = schedule_of(20, state, final_learning_rate_ratio=final)
    announced = join_schedule(longer, step)
    assert "20 optimizer steps instead of 10" in announced
    assert f"step {step + 1} is {longer.get_last_lr()[0]:.3g} instead of" in announced
    assert longer.optimizer.param_groups[0]["lr"] == longer.get_last_lr()[0]
    rates += rates_of(longer, 20 - step)
    assert min(rates) > 0
    moves = [abs(b - a) for a, b in pairwise(rates)]
    assert max(moves) <= 1 / 3 + 1e-9  # as in the warm-up, which takes 3 steps
    # Behind the warm-up it is the schedule of a run of 20 steps, to the bit.
    expected = rates_of(schedule_of(20, final_learning_rate_ratio=final), 20)
    assert rates[step + 3 :] == expected[step + 3 :]


def test_a_longer_run_that_is_cut_off_goes_on_the_same(stopped_at, tmp_path):
    _, state = stopped_at(10, 10)
    whole = schedule_of(20, state)
    join_schedule(whole, 10)
    cut = schedule_of(20, state)
    join_schedule(cut, 10)
    rates_of(cut, 1)
    torch.save(cut.state_dict(), tmp_path / "cut.pt")
    again = schedule_of(20, tmp_path / "cut.pt")
    assert join_schedule(again, 11) == ""
    assert rates_of(whole, 10)[1:] == rates_of(again, 9)


def test_a_run_of_the_same_length_goes_on_as_it_was(stopped_at):
    rates, state = stopped_at(4, 10)
    again = schedule_of(10, state)
    assert join_schedule(again, 4) == ""
    assert rates + rates_of(again, 6) == rates_of(schedule_of(10), 10)


def test_without_a_warm_up_the_new_schedule_counts_at_once():
    schedule = Schedule(10, OptimizerConfig(warmup_steps=0))
    schedule.planned_steps = 5
    assert schedule.join(5) == (5, 0.0)
    assert schedule(5) == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_that_would_lose_small_steps_are_refused(dtype):
    module = three_parts()
    names = set(dict(module.named_parameters()))
    module.language_model.layer.to(dtype)
    frozen = {name for name in names if "layer" in name}
    build_optimizer(module, names - frozen, OptimizerConfig())  # what is frozen may be so
    with pytest.raises(
        ValueError, match=r"layer\.weight .* reasoner\.language_model\.dtype=float32"
    ):
        build_optimizer(module, names, OptimizerConfig())
    module.fusion.norm.to(dtype)
    with pytest.raises(ValueError, match=r"fusion\.norm\.weight .* trainer\.precision=bf16-mixed"):
        build_optimizer(module, names - frozen, OptimizerConfig())
