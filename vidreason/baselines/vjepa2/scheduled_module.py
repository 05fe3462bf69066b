"""Optimizer, schedule and clipping of the modules that train on their own, without a reasoner."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from vidreason.baselines.epoch_losses import EpochLossModule
from vidreason.training.config import OptimizerConfig
from vidreason.training.optimizer import build_schedule, join_schedule, undecayed_names


class ScheduledModule(EpochLossModule):
    """A module whose parameters with gradients are trained by AdamW along one schedule.

    Args:
        optimizer: AdamW and its schedule; learning rate factors of parts are not for it.
        total_steps: Optimizer steps of the whole run.

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

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        config = self.optimizer_config
        undecayed = undecayed_names(self)
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        # Norms, biases and queries are not decayed, as in the stages.
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
        # A resumed run may have another number of steps than its checkpoint's schedule.
        if longer := join_schedule(schedule, self.trainer.global_step):
            rank_zero_info(longer)
