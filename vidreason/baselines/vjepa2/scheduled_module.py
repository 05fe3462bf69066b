"""Optimizer, schedule and clipping of the modules that train on their own, without a reasoner."""

from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from vidreason.training.config import OptimizerConfig
from vidreason.training.optimizer import build_schedule, join_schedule, undecayed_names


class ScheduledModule(LightningModule):
    """A module whose parameters with gradients are trained by AdamW along one schedule.

    A subclass calls :meth:`record_loss` in each training step.

    Args:
        optimizer: AdamW and its schedule; learning rate factors of parts are not for it.
        total_steps: Optimizer steps of the whole run.

    Attributes:
        epoch_losses: Mean loss of each finished epoch; a checkpoint holds them, too.

    Raises:
        ValueError: ``optimizer`` has factors of parts.
    """

    def __init__(self, optimizer: OptimizerConfig, total_steps: int) -> None:
        super().__init__()
        if optimizer.learning_rate_factors:
            raise ValueError(
                "optimizer.learning_rate_factors name parts of a reasoner; leave them out here"
            )
        self.optimizer_config = optimizer
        self.total_steps = total_steps
        self.epoch_losses: list[float] = []
        self._losses: list[tuple[Tensor, int]] = []

    def record_loss(self, loss: Tensor, batch_size: int) -> None:
        """Log the mean loss of a batch, and count it in the epoch's."""
        self._losses.append((loss.detach(), batch_size))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch_size)

    @override
    def on_train_epoch_start(self) -> None:
        self._losses.clear()

    @override
    def on_train_epoch_end(self) -> None:
        total = sum(float(loss) * size for loss, size in self._losses)
        self.epoch_losses.append(total / sum(size for _, size in self._losses))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kind"] = type(self).__name__
        checkpoint["epoch_losses"] = list(self.epoch_losses)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another kind of training.

        Raises:
            ValueError: It is one.
        """
        if checkpoint.get("kind") != type(self).__name__:
            raise ValueError(
                f"the checkpoint is of {checkpoint.get('kind')!r}, not of {type(self).__name__!r}; "
                "choose another run_dir"
            )
        self.epoch_losses = list(checkpoint["epoch_losses"])

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        config = self.optimizer_config
        undecayed = undecayed_names(self)
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in trained if (name in undecayed) == bare], "weight_decay": w}
            for bare, w in ((False, config.weight_decay), (True, 0.0))
        ]
        first, second = config.betas
        optimizer = AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(first, second),
            eps=config.epsilon,
        )
        schedule = build_schedule(optimizer, self.total_steps, config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm = self.optimizer_config.gradient_clip_norm or gradient_clip_val
        self.clip_gradients(optimizer, norm, gradient_clip_algorithm or "norm")

    @override
    def on_train_start(self) -> None:
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        if longer := join_schedule(schedule, self.trainer.global_step):
            rank_zero_info(longer)
