"""Stage 1 (section 3.4.1): the fusion core learns to speak to the frozen language model."""

from vidreason.model import VideoReasoner
from vidreason.training.optimizer import OptimizerConfig
from vidreason.training.stage import StageModule


class AlignmentModule(StageModule):
    """Train the fusion core on captions; see :class:`StageModule`."""

    def __init__(
        self, reasoner: VideoReasoner, optimizer: OptimizerConfig, total_steps: int
    ) -> None:
        super().__init__(reasoner, optimizer, total_steps, stage="alignment")
