"""What trains from when: parts of the model that are thawed at an optimizer step or an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from typing_extensions import override

from vidreason.training.stage import StageModule
from vidreason.training.trainable import part_names, set_trainable


@dataclass(kw_only=True)
class Thaw:
    """When one part begins to train."""

    part: Literal["fusion", "lora", "language_model"]
    """The fusion core, the LoRA adapters, or the language model's own weights."""
    from_step: int = 0
    """Optimizer step from which it trains. With ``from_epoch`` too, both must be reached."""
    from_epoch: int = 0
    """Epoch from which it trains; the first is 0."""

    def __post_init__(self) -> None:
        if self.from_step < 0 or self.from_epoch < 0:
            raise ValueError(
                f"freeze_schedule: {self.part} from_step {self.from_step}, from_epoch "
                f"{self.from_epoch}; neither can be below 0"
            )


class FreezeSchedule(Callback):
    """Keep parts frozen until their time; a part that is not listed trains as the stage says.

    A part that the stage does not train (``language_model``) is added to what the optimizer and
    the checkpoints hold. The optimizer holds all parts from the start; a frozen part has no
    gradient, and AdamW passes over it, weight decay included. What trains follows from step and
    epoch alone, so a resumed run needs no further state.

    Under DDP, the Trainer needs ``strategy="ddp_find_unused_parameters_true"``: a frozen part is an
    unused one.
    """

    def __init__(self, thaws: Sequence[Thaw]) -> None:
        parts = [thaw.part for thaw in thaws]
        if len(set(parts)) != len(parts):
            raise ValueError(f"freeze_schedule: a part may be listed once, found {parts}")
        self.thaws = tuple(thaws)
        self._names: dict[str, frozenset[str]] = {}
        """Parameters of each listed part."""
        self._frozen: tuple[Thaw, ...] | None = None
        """What is frozen at the moment; None before training."""

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        assert isinstance(pl_module, StageModule)
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy):
            if not strategy._ddp_kwargs.get("find_unused_parameters"):
                raise ValueError(
                    "the freeze schedule needs trainer.strategy=ddp_find_unused_parameters_true: "
                    "DDP otherwise waits for the gradients of the frozen part"
                )
        elif not isinstance(strategy, SingleDeviceStrategy):
            raise ValueError(
                "the freeze schedule works on one device or under DDP, found "
                f"{type(strategy).__name__}"
            )
        # Before the strategy wraps the module, so that DDP knows all parameters.
        for thaw in self.thaws:
            self._names[thaw.part] = part_names(pl_module.reasoner, thaw.part)
            pl_module.trainable |= self._names[thaw.part]
        set_trainable(pl_module.reasoner, pl_module.trainable)

    @override
    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        frozen = tuple(
            thaw
            for thaw in self.thaws
            if trainer.global_step < thaw.from_step or trainer.current_epoch < thaw.from_epoch
        )
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
