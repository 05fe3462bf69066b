"""AdamW, and the learning rate over the steps: linear warm-up, then half a cosine (4.2.2)."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(kw_only=True)
class OptimizerConfig:
    """The defaults are stage 1's in the paper (section 4.2.2); stage 2 lowers the learning rate."""

    learning_rate: float = 1e-4
    """At the end of the warm-up."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """AdamW's decay rates of the gradient's mean and square."""
    epsilon: float = 1e-8
    weight_decay: float = 0.05
    """Not on norms, biases and queries."""
    warmup_steps: int = 2000
    """Optimizer steps over which the learning rate rises from almost 0."""
    final_learning_rate_ratio: float = 0.0
    """The learning rate of the last step is this share of ``learning_rate``."""
    gradient_clip_norm: float | None = 1.0
    """Longest gradient, over all parameters together; None for any. The paper names none."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"optimizer.learning_rate is {self.learning_rate}; it must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"optimizer.betas is {list(self.betas)}; it must be two numbers in [0, 1)"
            )
        for name in ("epsilon", "weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)}; it must not be below 0"
                )
        if not 0 <= self.final_learning_rate_ratio <= 1:
            raise ValueError(
                f"optimizer.final_learning_rate_ratio is {self.final_learning_rate_ratio}; "
                "it must be in [0, 1]"
            )
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise ValueError(
                f"optimizer.gradient_clip_norm is {self.gradient_clip_norm}; it must be above 0, "
                "or null for no clipping"
            )


def undecayed_names(module: nn.Module) -> frozenset[str]:
    """Names of the parameters without weight decay: norms, biases and queries."""
    return frozenset(
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim < 2 or name.rpartition(".")[2] == "queries"
    )


def build_optimizer(
    module: nn.Module, names: Collection[str], config: OptimizerConfig
) -> Optimizer:
    """AdamW over the parameters ``names`` of ``module``, in the module's order.

    A parameter that gets no gradient in a step, because it is frozen for now, is left as it is:
    AdamW passes over it, weight decay included.
    """
    undecayed = undecayed_names(module)
    groups = [
        {
            "params": [
                p for n, p in module.named_parameters() if n in names and n not in undecayed
            ],
            "weight_decay": config.weight_decay,
        },
        {
            "params": [p for n, p in module.named_parameters() if n in names and n in undecayed],
            "weight_decay": 0.0,
        },
    ]
    first, second = config.betas
    return AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(first, second),
        eps=config.epsilon,
    )


def learning_rate_ratio(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of the optimizer step after ``step`` others, relative to the highest.

    It rises linearly over the warm-up, reaches 1 at its last step, and falls along half a cosine to
    ``final_learning_rate_ratio`` at ``total_steps``, where it stays.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.final_learning_rate_ratio + (1 - config.final_learning_rate_ratio) * cosine


def build_schedule(optimizer: Optimizer, total_steps: int, config: OptimizerConfig) -> LambdaLR:
    """The schedule over ``total_steps`` optimizer steps; to be advanced after each.

    Raises:
        ValueError: The warm-up is not shorter than the training.
    """
    if config.warmup_steps >= total_steps:
        raise ValueError(
            f"optimizer.warmup_steps {config.warmup_steps} is not below the run's {total_steps} "
            "optimizer steps: the learning rate would never come down; lower it"
        )
    return LambdaLR(optimizer, lambda step: learning_rate_ratio(step, total_steps, config))
