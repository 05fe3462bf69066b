"""``McvdTrainingConfig``: sizes, data and schedule of an MCVD model."""

from dataclasses import dataclass, field
from math import inf

from experiments.train_baseline.corpora_config import TrainingCorporaConfig
from vidreason.baselines.mcvd.config import DiffusionConfig, microworld_config
from vidreason.ranges import ABOVE_0, BELOW_1, check_ranges


@dataclass(kw_only=True)
class McvdTrainingConfig:
    """An MCVD model that is trained on videos; the defaults are for the microworld's."""

    model: DiffusionConfig = field(default_factory=microworld_config)
    """Sizes, noise and sampling."""
    name: str = "microworld"
    """The model's, for tables."""
    data: TrainingCorporaConfig = field(default_factory=TrainingCorporaConfig)
    """Corpora whose videos are taken, each once; nothing else of them is read."""
    windows_per_video: int = 8
    """Windows of frames of each video in an epoch."""
    batch_size: int = 8
    num_epochs: int = 10
    learning_rate: float = 1e-3
    """Learning rate of Adam, after the warm-up."""
    warm_up_steps: int = 100
    """Optimizer steps in which the learning rate rises from 0."""
    average_decay: float = 0.999
    """Share of the moving average of the parameters that each optimizer step leaves."""
    gradient_clip_norm: float | None = 1.0
    """Largest norm of the whole gradient; null for no clipping."""

    def __post_init__(self) -> None:
        check_ranges(
            "mcvd",
            self,
            **dict.fromkeys(("windows_per_video", "batch_size", "num_epochs"), (1, inf)),
            learning_rate=(ABOVE_0, 1),
            warm_up_steps=(0, inf),
            average_decay=(0, BELOW_1),
            gradient_clip_norm=(ABOVE_0, inf),
        )
