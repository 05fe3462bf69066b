"""``SweepConfig``: the keys whose values a sweep tries, and how trials are drawn."""

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class Range:
    """Values of a random or Optuna sweep between two bounds, both included."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    """True to spread values evenly by their logarithm, as for learning rates."""
    whole: bool = False
    """True for whole numbers."""

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"a range from {self.low} to {self.high}: expected low <= high, and low > 0 for "
                "log=true"
            )


@dataclass(kw_only=True)
class SweepConfig:
    """Keys, values and number of trials of a sweep."""

    run_dir: str = "runs/sweep"
    """Folder of everything that the sweep writes."""
    configs: list[str] = field(default_factory=list)
    """YAML files of the stage that is trained; a later one wins."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of all trials, such as ``data.num_epochs=1``."""
    choices: dict[str, list[Any]] = field(default_factory=dict)
    """Values to choose from by dotted key: ``{optimizer.learning_rate: [1e-4, 3e-4]}``."""
    ranges: dict[str, Range] = field(default_factory=dict)
    """Ranges to draw from by dotted key, not for ``grid``."""
    method: Literal["grid", "random", "optuna"] = "grid"
    num_trials: int = 16
    """Number of trials of ``random`` and ``optuna``; ``grid`` has as many as there are
    combinations."""
    seed: int = 0
    """Seed of the draws; the trials' own seed is the configuration's."""
    corpus: str = ""
    """The corpus whose accuracy decides; empty for the mean over the corpora, all weighing the
    same."""
    choose_on: Literal["validation", "test_split_knowingly"] = "validation"
    """Questions that decide. ``validation``: those of ``data.benchmark`` that are no test split;
    where all are, the same corpora in ``data.validation``. The test split is then answered once, by
    the chosen trial. ``test_split_knowingly``: all of ``data.benchmark``; the numbers then say
    little of other questions."""
    max_parallel: int = 1
    """Programs at a time; ``optuna`` sees as many trials at once without knowing their results."""
    threads: int = 1
    """Threads of each program."""

    def __post_init__(self) -> None:
        if not self.configs:
            raise ValueError("configs is empty: name the YAML files of the stage to train")
        if not self.choices and not self.ranges:
            raise ValueError("choices and ranges are empty: name the keys to try values of")
        if self.method == "grid" and self.ranges:
            raise ValueError(
                f"ranges has {list(self.ranges)}, but method 'grid' needs choices; list values, or "
                "set method=random"
            )
        both = sorted(self.choices.keys() & self.ranges.keys())
        if both:
            raise ValueError(f"{both} are in choices and in ranges; leave them in one")
        for key, values in self.choices.items():
            if not values:
                raise ValueError(f"choices: {key} has no value")
        check_ranges("", self, num_trials=(1, inf), max_parallel=(1, inf), threads=(1, inf))
