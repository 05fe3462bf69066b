"""Settings of V-JEPA 2: pre-training of a small one, and training of an anticipation probe."""

from dataclasses import dataclass, field
from math import inf

from experiments.train_baseline.corpora_config import TrainingCorporaConfig
from vidreason.baselines.vjepa2.config import LookAhead, ModelSizes, PretrainingConfig
from vidreason.ranges import ABOVE_0, check_ranges
from vidreason.training.config import OptimizerConfig


@dataclass(kw_only=True)
class VJepa2PretrainingConfig:
    """A V-JEPA 2 that is trained on videos without their labels."""

    model: ModelSizes = field(default_factory=ModelSizes)
    """Sizes of encoder and predictor."""
    task: PretrainingConfig = field(default_factory=PretrainingConfig)
    """Masks, loss and target encoder."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    data: TrainingCorporaConfig = field(default_factory=TrainingCorporaConfig)
    """Corpora whose videos are taken, each once; nothing else of them is read."""
    frames_per_second: float = 4.0
    """Rate of a clip's frames."""
    clips_per_video: int = 4
    """Clips of each video in an epoch."""
    batch_size: int = 16
    num_epochs: int = 10
    """0 writes the model as it is drawn, the control for what pre-training gives."""

    def __post_init__(self) -> None:
        check_ranges(
            "vjepa2_pretraining",
            self,
            frames_per_second=(ABOVE_0, 1000),
            clips_per_video=(1, inf),
            batch_size=(1, inf),
            num_epochs=(0, inf),
        )


@dataclass(kw_only=True)
class VJepa2ProbeConfig:
    """A probe that is trained to tell what comes next, on latents of a frozen V-JEPA 2."""

    encoder: str = ""
    """Encoder and predictor: a folder that pre-training wrote, another one of transformers, or a
    repository of the Hub, such as ``facebook/vjepa2-vitl-fpc64-256``."""
    revision: str | None = None
    """Branch, tag or commit of a repository of the Hub."""
    look_ahead: LookAhead = field(default_factory=LookAhead)
    """Frames that are observed, and the time that is predicted."""
    num_heads: int = 16
    """Attention heads of the probe; divides the width of the encoder."""
    num_blocks: int = 4
    """Blocks of the probe."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    data: TrainingCorporaConfig = field(default_factory=TrainingCorporaConfig)
    """Corpora with questions for next events, such as ``causal_vid_instruct``; others are passed
    over."""
    batch_size: int = 32
    num_epochs: int = 20

    def __post_init__(self) -> None:
        counts = ("num_heads", "num_blocks", "batch_size", "num_epochs")
        check_ranges("vjepa2", self, **dict.fromkeys(counts, (1, inf)))

    def check_encoder(self) -> None:
        """Make sure that an encoder is named.

        Raises:
            ValueError: None is.
        """
        if not self.encoder:
            raise ValueError(
                "vjepa2.encoder is empty; give the folder that kind vjepa2_pretraining wrote "
                "(RUN_DIR/model), or a repository of the Hub"
            )
