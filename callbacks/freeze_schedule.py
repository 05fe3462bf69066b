"""Freeze schedule: parts of the model that begin to train at a step, an epoch or by a metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer
from typing_extensions import override

from callbacks.step_callback import logged_metric
from vidreason.training.checkpoint_strategies import ShardedStrategy
from vidreason.training.config import Thaw
from vidreason.training.sharded_values import from_rank_zero
from vidreason.training.stage import StageModule
from vidreason.training.trainable import part_names, set_trainable


@dataclass(kw_only=True)
class _Progress:
    """State of a part that cannot be recomputed from step and epoch."""

    metric_met: bool
    best: float
    """Best value of the metric so far, negated for mode ``max``: lower is better."""
    stalled: int = 0
    thawed_at: int | None = None


class FreezeSchedule(Callback):
    """Keep parts frozen until they thaw; a part that is not listed trains as the stage says.

    A part that the stage does not train (``language_model``) is added to what the optimizer and
    the checkpoints hold. The optimizer holds all parts from the start; a frozen part has no
    gradient, and AdamW passes over it, weight decay included. A part thaws at the beginning of an
    optimizer step. Checkpoints hold the metrics' best values and the steps of the thaws.

    Works on one device, under DDP, which is told to look for parameters without a gradient, and
    under FSDP2.
    """

    def __init__(self, thaws: Sequence[Thaw]) -> None:
        parts = [thaw.part for thaw in thaws]
        if len(set(parts)) != len(parts):
            raise ValueError(f"freeze_schedule: a part may be listed once, found {parts}")
        self.thaws = tuple(thaws)
        self._progress: dict[str, _Progress] = {
            thaw.part: _Progress(metric_met=not thaw.when_metric, best=math.inf) for thaw in thaws
        }
        self._names: dict[str, frozenset[str]] = {}
        """Names of the parameters of each listed part."""
        self._frozen: tuple[Thaw, ...] | None = None
        """Parts that are frozen now; None before training."""

    @override
    def state_dict(self) -> dict[str, Any]:
        return {part: vars(progress).copy() for part, progress in self._progress.items()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part in self._progress.keys() & state_dict.keys():
            self._progress[part] = _Progress(**state_dict[part])

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        assert isinstance(pl_module, StageModule)
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy):
            # DDP, which is built later, would otherwise wait for the frozen part's gradients.
            strategy._ddp_kwargs["find_unused_parameters"] = True
        elif not isinstance(strategy, SingleDeviceStrategy | ShardedStrategy):
            raise ValueError(
                "the freeze schedule works on one device, under DDP and under FSDP2, found "
                f"{type(strategy).__name__}; take freeze_schedule out, or set trainer.strategy"
            )
        # Before the strategy wraps the module, so that it knows all parameters.
        for thaw in self.thaws:
            self._names[thaw.part] = part_names(pl_module.reasoner, thaw.part)
            pl_module.trainable |= self._names[thaw.part]
        set_trainable(pl_module.reasoner, pl_module.trainable)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        for thaw in self.thaws:
            progress = self._progress[thaw.part]
            if progress.metric_met:
                continue
            metrics, field = trainer.callback_metrics, f"freeze_schedule: {thaw.part}.when_metric"
            # Rank 0's value for all: no rank may thaw before the others.
            value = from_rank_zero(partial(logged_metric, metrics, thaw.when_metric, field))
            sign = 1 if thaw.mode == "min" else -1
            better = sign * value < progress.best
            progress.best = sign * value if better else progress.best
            progress.stalled = 0 if better else progress.stalled + 1
            progress.metric_met = (
                sign * value <= sign * thaw.reaches
                if thaw.reaches is not None
                else progress.stalled == thaw.patience
            )

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return  # in the middle of a step, which a validation may interrupt
        frozen = tuple(thaw for thaw in self.thaws if not self._has_thawed(thaw, trainer))
        if frozen == self._frozen:
            return
        self._frozen = frozen
        assert isinstance(pl_module, StageModule)
        trains = pl_module.trainable.difference(*(self._names[thaw.part] for thaw in frozen))
        if not trains:
            raise ValueError(
                f"freeze_schedule: nothing trains at step {trainer.global_step} of epoch "
                f"{trainer.current_epoch}; let one part begin at step 0"
            )
        set_trainable(pl_module.reasoner, trains)

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Warm up the parts that have thawed, each step from the rate that the schedule has set."""
        scheduled = trainer.lr_scheduler_configs[0].scheduler.get_last_lr()
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * self._warmth(group["part"], trainer.global_step)

    def _has_thawed(self, thaw: Thaw, trainer: Trainer) -> bool:
        """Return whether a part trains at this step; record the first step at which it does."""
        progress = self._progress[thaw.part]
        step, epoch = trainer.global_step, trainer.current_epoch
        if progress.thawed_at is None:
            if step < thaw.from_step or epoch < thaw.from_epoch or not progress.metric_met:
                return False
            progress.thawed_at = step
            if step > 0:
                rank_zero_info(f"{thaw.part} trains from step {step} of epoch {epoch} on")
        return True

    def _warmth(self, part: str, step: int) -> float:
        for thaw in self.thaws:
            thawed_at = self._progress[part].thawed_at if thaw.part == part else None
            if thawed_at is not None and step - thawed_at < thaw.warmup_steps:
                return (step - thawed_at + 1) / thaw.warmup_steps
        return 1.0
