"""Stage 2 (section 3.4.2): fusion core and LoRA learn to reason and predict on instructions."""

from typing_extensions import override

from vidreason.model import VideoReasoner
from vidreason.training.checkpoint import load_trainable
from vidreason.training.checkpoint_format import check_frozen
from vidreason.training.optimizer import OptimizerConfig
from vidreason.training.stage import StageModule
from vidreason.training.trainable import trainable_names


class InstructionModule(StageModule):
    """Train the fusion core and the LoRA adapters; see :class:`StageModule`.

    Args:
        reasoner: What to train; it must have LoRA adapters.
        optimizer: AdamW and its schedule.
        total_steps: Optimizer steps of the whole run.
        initial_checkpoint: Stage 1's Lightning checkpoint, from which the fusion core starts; empty
            to leave it as it is, as when the run continues from a checkpoint of its own.

    Raises:
        ValueError: The reasoner has no adapters, or the checkpoint does not fit. In ``setup``: it
            was made behind another language model or video encoder.
    """

    def __init__(
        self,
        reasoner: VideoReasoner,
        optimizer: OptimizerConfig,
        total_steps: int,
        initial_checkpoint: str = "",
    ) -> None:
        super().__init__(reasoner, optimizer, total_steps, stage="instruction")
        self.initial_checkpoint = initial_checkpoint
        self._initial_frozen: dict[str, str] = {}
        if initial_checkpoint:
            names = trainable_names(reasoner, "alignment")
            self._initial_frozen = load_trainable(reasoner, initial_checkpoint, names)

    @override
    def setup(self, stage: str) -> None:
        # Not above: the parts are hashed on one rank, and before the launch there are none.
        if self._initial_frozen:
            source = f"initial_checkpoint {self.initial_checkpoint!r}"
            check_frozen(self._initial_frozen, self.identity.frozen(), source)
