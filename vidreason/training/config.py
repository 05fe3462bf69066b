"""Configuration of training: optimizer, thaws, averages, guards. Nothing here imports torch."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import ABOVE_0, BELOW_1, check_ranges

Stage = Literal["alignment", "instruction"]
Part = Literal["fusion", "lora", "language_model"]
PARTS: tuple[Part, ...] = ("fusion", "lora", "language_model")


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
    warmup_steps: int | None = None
    """Optimizer steps over which the learning rate rises from almost 0. None: the paper's 2,000, or
    a twentieth of the run's steps if those are fewer."""
    final_learning_rate_ratio: float = 0.0
    """The learning rate of the last step is this share of ``learning_rate``."""
    learning_rate_factors: dict[str, float] = field(default_factory=dict)
    """Factor of a part's learning rate, by ``fusion``, ``lora`` or ``language_model``; 1 for parts
    that are not named."""
    gradient_clip_norm: float | None = 1.0
    """Largest norm of the whole gradient; null for no clipping. The paper names none."""

    def __post_init__(self) -> None:
        check_ranges(
            "optimizer",
            self,
            learning_rate=(ABOVE_0, inf),
            epsilon=(0, inf),
            weight_decay=(0, inf),
            warmup_steps=(0, inf),
            final_learning_rate_ratio=(0, 1),
            gradient_clip_norm=(ABOVE_0, inf),
        )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"optimizer.betas is {list(self.betas)}; it must be two numbers in [0, 1)"
            )
        for part, factor in self.learning_rate_factors.items():
            if part not in PARTS or not factor > 0:
                raise ValueError(
                    f"optimizer.learning_rate_factors gives {part!r} {factor}; it names "
                    f"{', '.join(PARTS)}, with numbers above 0"
                )


@dataclass(kw_only=True)
class Thaw:
    """Start of one part's training; if several conditions are given, all have to be met.

    ``optimizer.learning_rate_factors`` sets how fast it learns.
    """

    part: Part
    """The fusion core, the LoRA adapters, or the language model's own weights."""
    from_step: int = 0
    """Optimizer step from which it trains."""
    from_epoch: int = 0
    """Epoch from which it trains; the first is 0."""
    when_metric: str = ""
    """A metric of the validations, such as ``val/loss``: the part trains after the first validation
    at which it ``reaches`` a value, or has stalled. It may get worse again afterwards."""
    mode: Literal["min", "max"] = "min"
    """``min`` if lower values of the metric are better."""
    reaches: float | None = None
    """Value of the metric that has to be reached."""
    patience: int | None = None
    """Number of validations in a row without a new best value, from the start of the run on."""
    warmup_steps: int = 0
    """Optimizer steps, from the thaw on, over which the part's learning rate rises linearly to the
    schedule's."""

    def __post_init__(self) -> None:
        check_ranges(
            f"freeze_schedule: {self.part}",
            self,
            from_step=(0, inf),
            from_epoch=(0, inf),
            warmup_steps=(0, inf),
            patience=(1, inf),
        )
        conditions = [self.reaches, self.patience]
        if conditions.count(None) != (1 if self.when_metric else 2):
            raise ValueError(
                f"freeze_schedule: {self.part} has when_metric {self.when_metric!r}, reaches "
                f"{self.reaches}, patience {self.patience}; a metric takes one of the two, and "
                "they take a metric"
            )


@dataclass(kw_only=True)
class WeightAverageConfig:
    """Average of the trained weights to keep, if any."""

    kind: Literal["none", "ema", "swa"] = "none"
    """``ema`` is exponential: recent steps count more. ``swa`` is the mean of all."""
    decay: float = 0.999
    """``ema``: weight of the former average at each update."""
    from_step: int = 1
    """First optimizer step after which the weights count."""
    every_n_steps: int = 1
    """Optimizer steps between two updates."""

    def __post_init__(self) -> None:
        ranges = {"decay": (0, BELOW_1), "from_step": (1, inf), "every_n_steps": (1, inf)}
        check_ranges("weight_average", self, **ranges)


@dataclass(kw_only=True)
class StepGuardConfig:
    """Optimizer steps to skip, and their largest number."""

    skip_nonfinite: bool | None = None
    """Skip steps whose loss or gradient is infinite or not a number. The host waits once for the
    device a step. None: everywhere but under DeepSpeed, which makes its steps itself."""
    spike_deviations: float | None = None
    """Skip steps whose loss lies more than this many standard deviations above the mean of the
    ``window`` before; None for no such limit."""
    window: int = 100
    """Number of the last steps, skipped ones left out, that give mean and deviation. No step counts
    as a spike before there are as many."""
    max_skipped: int = 10
    """Skipped steps, over the whole run, that are tolerated; one more ends it."""

    def __post_init__(self) -> None:
        ranges = {"spike_deviations": (ABOVE_0, inf), "window": (2, inf), "max_skipped": (0, inf)}
        check_ranges("guard", self, **ranges)
