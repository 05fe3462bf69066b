"""Settings of the training of SeViLA's localizer, re-composed."""

from dataclasses import dataclass, field
from math import inf

from experiments.train_baseline.corpora_config import TrainingCorporaConfig
from vidreason.ranges import check_ranges
from vidreason.store.config import StoreConfig
from vidreason.training.config import OptimizerConfig


@dataclass(kw_only=True)
class SevilaLocalizerConfig:
    """A localizer that learns from which frames alone the answerer answers right."""

    answerer: str = ""
    """Reasoner folder that both stages of ``fit`` have trained with SeViLA's architecture, with its
    adapters, as ``vidreason export`` writes it; the localizer begins with its weights. Of one with
    merged adapters, such as ``RUN_DIR/reasoner``, the Q-Former alone trains."""
    store: StoreConfig = field(default_factory=StoreConfig)
    """Where visual tokens are kept; the answerer's own store has them already."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    data: TrainingCorporaConfig = field(default_factory=TrainingCorporaConfig)
    """Corpora with questions that have a right answer; other questions are passed over."""
    max_text_tokens: int = 512
    """Longest question with the request and the answer, in tokens."""
    max_new_tokens: int = 16
    """Longest generated answer to an open question, in tokens."""
    batch_size: int = 32
    num_epochs: int = 1

    def __post_init__(self) -> None:
        counts = ("max_text_tokens", "max_new_tokens", "batch_size", "num_epochs")
        check_ranges("sevila_localizer", self, **dict.fromkeys(counts, (1, inf)))

    def check_answerer(self) -> None:
        """Make sure that an answerer is named.

        Raises:
            ValueError: None is.
        """
        if not self.answerer:
            raise ValueError(
                "sevila_localizer.answerer is empty; give the folder that vidreason export makes "
                "of stage 2, trained with SeViLA's architecture"
            )
