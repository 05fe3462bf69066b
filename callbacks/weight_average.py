"""Average of the weights of many steps, which often answers better than the last ones."""

from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from typing_extensions import override

from callbacks.step_callback import StepCallback
from vidreason.training.checkpoint import PREFIX
from vidreason.training.checkpoint_files import AVERAGE
from vidreason.training.checkpoint_strategies import ShardedStrategy
from vidreason.training.config import WeightAverageConfig
from vidreason.training.sharded_values import shard_like
from vidreason.training.stage import StageModule


class WeightAverage(StepCallback):
    """Average what trains; validate with the average, and give it to the exported reasoner.

    Lightning's ``WeightAveraging`` copies the whole module, the frozen 8B included, into memory and
    into checkpoints, and cannot be told to leave them out; nor does it know shards. So the averages
    of torch's ``swa_utils`` are applied here to the parameters that train at some time of the run,
    each rank's shards in its own memory, in float32 whatever the parameters are. Validation holds
    one more copy of these: the weights in training, put by.

    Training continues from its own weights, and checkpoints hold both: ``state_dict`` the weights
    in training, ``average`` their average, which ``vidreason export`` and stage 2's
    ``initial_checkpoint`` use where there is one. Callbacks that use the model between two
    validations (sample generations, benchmarks every n steps) see the weights in training.

    It must be the first of the callbacks: the others see the average in validation and in
    ``on_fit_end``, and the weights in training in a checkpoint, also in that of a run that is
    stopped in the middle of a validation.
    """

    def __init__(self, config: WeightAverageConfig) -> None:
        assert config.kind != "none"
        self.config = config
        self.every_n_steps = config.every_n_steps
        exponential: Callable[..., Any] = get_ema_multi_avg_fn  # torch does not type them
        equal: Callable[..., Any] = get_swa_multi_avg_fn
        self._average = exponential(config.decay) if config.kind == "ema" else equal()
        self.num_averaged = 0
        self.averages: dict[str, Tensor] = {}
        """By names of the reasoner's parameters; empty before the first step that counts."""
        self._loaded: dict[str, Tensor] = {}
        self._put_by: dict[str, Tensor] = {}
        """The weights in training while the average replaces them."""

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"num_averaged": self.num_averaged}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_averaged = state_dict["num_averaged"]

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        strategy = trainer.strategy
        if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy | ShardedStrategy):
            raise ValueError(
                "weight_average works on one device, under DDP and under FSDP2, found "
                f"{type(strategy).__name__}: set weight_average.kind=none, or trainer.strategy"
            )

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # A checkpoint continues the training: its weights are those in training, never the average.
        self._restore(pl_module)
        if self.averages:
            checkpoint[AVERAGE] = {PREFIX + name: v for name, v in self.averages.items()}

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loaded = checkpoint.get(AVERAGE, {})

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self._loaded:
            # In float32, on the parameter's device, and cut as the parameter is.
            self.averages = {
                name: shard_like(self._loaded[PREFIX + name], parameter).to(
                    parameter.device, torch.float32, copy=True
                )
                for name, parameter in _trained(pl_module).items()
            }
            self._loaded = {}

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step < self.config.from_step:
            return
        present = {name: value.float() for name, value in _trained(pl_module).items()}
        if self.averages:
            averages = [_local(value) for value in self.averages.values()]
            # In place, on this rank's shards.
            self._average(averages, [_local(v) for v in present.values()], self.num_averaged)
        else:
            self.averages = {name: value.clone() for name, value in present.items()}
        self.num_averaged += 1

    @override
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._apply(pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(pl_module)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._apply(pl_module)

    @torch.no_grad()
    def _apply(self, module: LightningModule) -> None:
        """Replace the weights by their average, unless that was done."""
        if self._put_by or not self.averages:
            return
        for name, parameter in _trained(module).items():
            self._put_by[name] = parameter.clone()
            parameter.copy_(self.averages[name])

    @torch.no_grad()
    def _restore(self, module: LightningModule) -> None:
        for name, parameter in _trained(module).items() if self._put_by else ():
            parameter.copy_(self._put_by.pop(name))


def _trained(module: LightningModule) -> dict[str, Tensor]:
    """Return this rank's shards of the parameters that train at some time of the run."""
    assert isinstance(module, StageModule)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()  # after a forward pass alone the outermost ones stay whole
    names = module.trainable
    return {n: p.detach() for n, p in module.reasoner.named_parameters() if n in names}


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
