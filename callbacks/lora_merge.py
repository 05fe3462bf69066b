"""At the end of training: one folder that answers, with LoRA merged into plain weights."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from vidreason.model import VideoReasoner, save_reasoner
from vidreason.perception.perceiver import PerceiverConfig


class LoraMerge(Callback):
    """Write the trained reasoner to ``folder`` when ``fit`` has ended well, on rank 0.

    The reasoner in training is not changed. Needs a strategy that keeps whole parameters on each
    rank (one device, or DDP), and memory for a second language model.

    Args:
        folder: Where to; what is there is replaced. ``load_reasoner`` reads it.
        perceiver_config: What the visual tokens were made with; kept in the folder, because the
            reasoner is of no use behind another perceiver.
    """

    def __init__(self, folder: str | Path, perceiver_config: PerceiverConfig) -> None:
        self.folder = Path(folder)
        self.perceiver_config = perceiver_config

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            reasoner = pl_module.reasoner
            assert isinstance(reasoner, VideoReasoner)
            save_reasoner(reasoner, self.folder, self.perceiver_config)
        trainer.strategy.barrier("reasoner saved")
