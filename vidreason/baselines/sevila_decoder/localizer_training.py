"""Training of SeViLA's localizer: yes or no about single frames, by the loss of the stages.

A checkpoint holds what trains, and not the frozen language model.
"""

from typing import Any, TypedDict

import torch
from torch import Tensor
from typing_extensions import override

from vidreason.baselines.vjepa2.scheduled_module import ScheduledModule
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import VisualBatch
from vidreason.reasoning.text_batch import TextBatch
from vidreason.training.config import OptimizerConfig
from vidreason.training.loss import next_token_loss
from vidreason.training.trainable import set_trainable, trainable_names

_PREFIX = "reasoner."


class KeyFrameBatch(TypedDict):
    """A batch of B frames, each with a question."""

    visual: VisualBatch
    text: TextBatch
    """Requests with the right answers, yes or no."""
    opposite: TextBatch
    """The same with the wrong ones."""


class LocalizerTraining(ScheduledModule):
    """Trains a reasoner, fusion and adapters, to tell frames that help from others.

    Metrics: ``train/loss`` per target token of a step; of the whole validation ``val/loss`` and
    ``val/accuracy``, the share of frames of which the right answer is likelier.

    Args:
        reasoner: Begins as the answerer; what does not train in stage 2 is frozen.
        optimizer: AdamW and its schedule.
        total_steps: Optimizer steps of the whole run.
    """

    def __init__(
        self, reasoner: VideoReasoner, optimizer: OptimizerConfig, total_steps: int
    ) -> None:
        super().__init__(optimizer, total_steps)
        self.reasoner = reasoner
        has_adapters = reasoner.config.lora is not None
        self.trained = trainable_names(reasoner, "instruction" if has_adapters else "alignment")
        set_trainable(reasoner, self.trained)
        self.strict_loading = False  # on_load_checkpoint is

    @override
    def on_fit_start(self) -> None:
        self.train()  # frozen modules stay in eval mode, see VideoReasoner.train

    @override
    def training_step(self, batch: KeyFrameBatch, batch_idx: int) -> Tensor:
        loss_sum, count = next_token_loss(self.reasoner(batch["visual"], batch["text"]))
        loss = loss_sum / count
        self.record_loss(loss, len(batch["text"]["lengths"]))
        return loss

    @override
    def validation_step(self, batch: KeyFrameBatch, batch_idx: int) -> None:
        size = len(batch["text"]["lengths"])
        # Log-probabilities of all target tokens, row after row: (targets,)
        right = self.reasoner(batch["visual"], batch["text"])
        wrong = self.reasoner(batch["visual"], batch["opposite"])
        self.log("val/loss", -right.mean(), prog_bar=True, batch_size=size)
        # Of each frame the log-probability of its whole answer: (targets,) -> (B,)
        by_row = [
            torch.zeros(size, device=values.device).index_add_(0, text["target_rows"], values)
            for values, text in ((right, batch["text"]), (wrong, batch["opposite"]))
        ]
        self.log("val/accuracy", (by_row[0] > by_row[1]).float().mean(), batch_size=size)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        # Else the frozen language model would be in each checkpoint.
        checkpoint["state_dict"] = {_PREFIX + n: state[_PREFIX + n] for n in sorted(self.trained)}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another kind of training, or of other parameters.

        Raises:
            ValueError: It is one.
        """
        super().on_load_checkpoint(checkpoint)
        if checkpoint["state_dict"].keys() != {_PREFIX + name for name in self.trained}:
            raise ValueError(
                "the checkpoint does not hold the parameters that train here; choose another "
                "run_dir"
            )
