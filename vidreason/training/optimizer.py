"""AdamW, and the learning rate over the steps: linear warm-up, then half a cosine (4.2.2)."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vidreason.training.config import PARTS, OptimizerConfig, Part
from vidreason.training.sharded_values import whole
from vidreason.training.trainable import part_of

_PAPERS_WARMUP_STEPS = 2000
"""Warm-up of stage 1 (section 4.2.2)."""
_STEPS_A_WARMUP_STEP = 20
"""A run of fewer steps than twenty times the paper's warm-up has a shorter one."""


def undecayed_names(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters without weight decay: norms, biases and queries."""
    return frozenset(
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim < 2 or name.rpartition(".")[2] == "queries"
    )


def build_optimizer(
    reasoner: nn.Module, names: Collection[str], config: OptimizerConfig
) -> Optimizer:
    """Build AdamW over the parameters ``names`` of a reasoner, in its order.

    There is a group with weight decay and one without for each part; their entry ``part`` names it.
    A parameter without a gradient in a step, because it is frozen for now, is left as it is: AdamW
    passes over it, weight decay included.

    Raises:
        ValueError: A part that has a factor of the learning rate does not train, or a parameter is
            of a dtype in which small steps are lost.
    """
    undecayed = undecayed_names(reasoner)
    parameters = [(n, p) for n, p in reasoner.named_parameters() if n in names]
    _check_dtypes(parameters)
    present = {part_of(name) for name, _ in parameters}
    if absent := sorted(config.learning_rate_factors.keys() - present):
        raise ValueError(
            f"optimizer.learning_rate_factors names {', '.join(absent)}, but this stage trains "
            f"{', '.join(sorted(present))}; take it out, or thaw it by the freeze_schedule"
        )
    # A group for each part, with and without weight decay; those without parameters are left out.
    groups: list[dict[str, Any]] = [
        {
            "params": [p for n, p in parameters if part_of(n) == part and (n in undecayed) == bare],
            "part": part,
            "weight_decay": 0.0 if bare else config.weight_decay,
            "lr": config.learning_rate * config.learning_rate_factors.get(part, 1.0),
        }
        for bare in (False, True)
        for part in PARTS
    ]
    first, second = config.betas
    optimizer = AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(first, second),
        eps=config.epsilon,
        fused=True,  # one kernel reads and writes each value once
    )
    # A fused step could undo a loss scale itself, so Lightning would not clip: it undoes the scale.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def _check_dtypes(parameters: Sequence[tuple[str, Tensor]]) -> None:
    """Refuse parameters that would be trained in 16 bits or fewer.

    A bfloat16 has 8 significant bits: a step below 1/256 of a value rounds to nothing, so that norm
    weights of 1 never move at the usual learning rates. DeepSpeed, which keeps copies in float32,
    is given float32 as well.
    """
    for name, parameter in parameters:
        if parameter.dtype in (torch.float32, torch.float64):
            continue
        dtype = str(parameter.dtype).removeprefix("torch.")
        remedy = "set trainer.precision=bf16-mixed, which computes in bfloat16 and trains float32"
        if part_of(name) == "language_model":
            remedy = (
                "set reasoner.language_model.dtype=float32 (and quantization=none) to train the "
                "language model's own weights"
            )
        raise ValueError(
            f"{name} would be trained in {dtype}, which loses steps that are small beside the "
            f"value: {remedy}"
        )


def learning_rates(optimizer: Optimizer) -> dict[Part, float]:
    """Return the current learning rate of each part."""
    return {group["part"]: group["lr"] for group in optimizer.param_groups}


@torch.no_grad()
def gradient_norms(optimizer: Optimizer) -> dict[Part, Tensor]:
    """Return the norm of each part's gradient, without a dimension; collective if sharded.

    Parts without a gradient are left out. Nothing waits for the device.
    """
    gradients: dict[Part, list[Tensor]] = {}
    for group in optimizer.param_groups:
        present = [p.grad for p in group["params"] if p.grad is not None]
        if present:
            gradients.setdefault(group["part"], []).extend(present)
    return {part: whole(get_total_norm(of_part)) for part, of_part in gradients.items()}


def has_gradients(optimizer: Optimizer) -> bool:
    """Return whether any parameter has a gradient."""
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def learning_rate_ratio(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Return the learning rate of the step after ``step`` others, relative to a part's highest.

    It rises linearly over the warm-up, reaches 1 at its last step, and falls along half a cosine to
    ``final_learning_rate_ratio`` at ``total_steps``, where it stays.
    """
    warmup = num_warmup_steps(total_steps, config)
    if step < warmup:
        return (step + 1) / warmup
    # From 0 after the warm-up to 1 at the end of the run.
    progress = (step - warmup) / max(total_steps - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.final_learning_rate_ratio + (1 - config.final_learning_rate_ratio) * cosine


def num_warmup_steps(total_steps: int, config: OptimizerConfig) -> int:
    """Return the steps of the warm-up in a run of ``total_steps``."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    return min(_PAPERS_WARMUP_STEPS, total_steps // _STEPS_A_WARMUP_STEP)


class Schedule:
    """Learning rate of each optimizer step, relative to a part's highest.

    It is :func:`learning_rate_ratio`, until a run is made longer on the way: then the rate moves
    linearly, over ``warmup_steps``, from where it stood to the schedule over the new length, so
    that no step has a rate of 0 and none jumps.

    Args:
        total_steps: Optimizer steps of the whole run.
        config: The schedule's shape.

    Attributes:
        planned_steps: The length that the run had up to now. With the other attributes it is what
            checkpoints hold of the schedule (:class:`LambdaLR` saves the attributes of an object).
        joined_at: Step at which the run was made longer the last time.
        joined_from: The ratio at that step before it was.
    """

    __slots__ = ("__dict__", "_config", "_total_steps")  # only __dict__ goes into checkpoints

    def __init__(self, total_steps: int, config: OptimizerConfig) -> None:
        self._total_steps = total_steps
        self._config = config
        self.planned_steps = total_steps
        self.joined_at: int | None = None
        self.joined_from = 0.0

    def __call__(self, step: int) -> float:
        """Return the ratio of the optimizer step after ``step`` others."""
        ratio = learning_rate_ratio(step, self.planned_steps, self._config)
        warmup = num_warmup_steps(self.planned_steps, self._config)
        if self.joined_at is None or not self.joined_at <= step < self.joined_at + warmup:
            return ratio
        # Linear from the old ratio to the new schedule, in as many steps as a warm-up has.
        return self.joined_from + (ratio - self.joined_from) * (step - self.joined_at + 1) / warmup

    def join(self, step: int) -> tuple[int, float] | None:
        """Go over to the configured length at ``step``, if what was loaded has another one.

        Returns:
            The former length, and the ratio that ``step`` would have had; None if nothing changes.
        """
        former = self.planned_steps, self(step)
        if former[0] == self._total_steps:
            return None
        self.joined_at, self.joined_from = step, former[1]
        self.planned_steps = self._total_steps
        return former


def build_schedule(optimizer: Optimizer, total_steps: int, config: OptimizerConfig) -> LambdaLR:
    """Build the schedule over ``total_steps`` optimizer steps; to be advanced after each.

    Raises:
        ValueError: The warm-up is not shorter than the training.
    """
    if config.warmup_steps is not None and config.warmup_steps >= total_steps:
        raise ValueError(
            f"optimizer.warmup_steps {config.warmup_steps} is not below the run's {total_steps} "
            "optimizer steps: the learning rate would never come down; lower it, or leave it out"
        )
    return LambdaLR(optimizer, Schedule(total_steps, config))


def join_schedule(schedule: LambdaLR, step: int) -> str:
    """Let a loaded schedule change to the run's present length, from ``step`` on.

    Returns:
        A message about the change; empty if there is none.
    """
    ratio_of = schedule.lr_lambdas[0]  # one object for all groups
    assert isinstance(ratio_of, Schedule)
    former = ratio_of.join(step)
    if former is None:
        return ""
    # The next step reads its rates here, where the former schedule has put them.
    rates = [base * ratio_of(step) for base in schedule.base_lrs]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates  # what get_last_lr() gives
    steps, ratio = former
    return (
        f"the run now has {ratio_of.planned_steps} optimizer steps instead of {steps}: the "
        f"learning rate of step {step + 1} is {rates[0]:.3g} instead of "
        f"{schedule.base_lrs[0] * ratio:.3g}, and joins the schedule over the new length within "
        "optimizer.warmup_steps"
    )
