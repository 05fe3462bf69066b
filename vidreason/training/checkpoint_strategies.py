"""Lightning's strategies that shard parameters, with checkpoints of what trains and nothing else.

Lightning's own gather the frozen 8B for each checkpoint, number the optimizer's state by an order
that is not the optimizer's, and load a distributed checkpoint by a plan that asks for the frozen
parameters too (``../shared/facts``: Lightning 2.6.6). Here the module says what is saved
(:meth:`vidreason.training.stage.StageModule.on_save_checkpoint`), and the strategy only makes it
whole, or writes it in shards.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    ModelParallelStrategy,
)
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from typing_extensions import override

from vidreason.training.checkpoint import PREFIX, copy_state
from vidreason.training.checkpoint_files import (
    check_finite,
    gathered,
    prepare_folder,
    publish_folder,
    read_checkpoint,
    write_folder,
)
from vidreason.training.engine_step import divide_gradients
from vidreason.training.sharded_values import is_rank_zero
from vidreason.training.stage import StageModule


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2, whose checkpoints are one file, or a folder with ``save_distributed_checkpoint``.

    Either form is read here, whatever number of processes and whatever strategy has written it.

    The parameters are cut over all processes of all nodes.
    """

    @override
    def setup_environment(self) -> None:
        if self._data_parallel_size == "auto":  # Lightning's would be a part a node
            self._data_parallel_size = self.num_processes * self.num_nodes
            self._tensor_parallel_size = 1
        super().setup_environment()

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # the module puts what trains into the checkpoint

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        # Lightning may have wrapped it.
        return dict(getattr(optimizer, "_optimizer", optimizer).state_dict())

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        path = Path(self.broadcast(filepath))
        if self._save_distributed_checkpoint:
            write_folder(checkpoint, path)
            return
        complete = gathered(checkpoint)
        if is_rank_zero():
            self.checkpoint_io.save_checkpoint(complete, path, storage_options)

    @override
    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        parameters = dict(self._stage_module().reasoner.named_parameters())
        return read_checkpoint(
            Path(self.broadcast(checkpoint_path)),
            like=lambda name: parameters.get(name.removeprefix(PREFIX)),
        )

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self._stage_module()
        source = "the checkpoint to continue from"
        copy_state(module.reasoner, checkpoint["state_dict"], module.trainable, source)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)

    def _stage_module(self) -> StageModule:
        assert isinstance(self.lightning_module, StageModule)
        return self.lightning_module


class EngineStrategy(DeepSpeedStrategy):
    """DeepSpeed, whose folders hold no frozen parameters, and get their name when they are whole.

    DeepSpeed's engine writes and reads them itself: in its own form, which it reads at the number
    of processes that wrote it, and by ``torch.load`` without ``weights_only``: resume from folders
    that you have written. ``python -m experiments.checkpoint consolidate`` makes a file of them.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Lightning's options
        super().__init__(**{"exclude_frozen_parameters": True, **options})

    @override
    def setup(self, trainer: Any) -> None:
        module = self.lightning_module
        assert isinstance(module, StageModule)
        assert isinstance(self.config, dict)
        self.config["gradient_clipping"] = module.optimizer_config.gradient_clip_norm or 0.0
        super().setup(trainer)

    @override
    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | Module | None = None,
        **options: Any,
    ) -> Any:
        divide_gradients(self, 1.0)  # in the backward pass; the module says by what in the step
        return super().optimizer_step(optimizer, closure, model, **options)

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        path = Path(self.broadcast(filepath))
        check_finite(self._local_values(), path)
        super().save_checkpoint(checkpoint, prepare_folder(path), storage_options)
        publish_folder(path)

    def _local_values(self) -> dict[str, Tensor]:
        """Return this rank's part of the trained parameters and of the optimizer's state."""
        assert isinstance(self.lightning_module, StageModule)
        values = {
            name: getattr(parameter, "ds_tensor", parameter)  # of ZeRO-3, this rank's part
            for name, parameter in self.lightning_module.named_parameters()
            if parameter.requires_grad
        }
        for optimizer in self.optimizers:
            for number, fields in enumerate(optimizer.state.values()):
                tensors = {k: v for k, v in fields.items() if isinstance(v, Tensor)}
                values |= {f"optimizer's {k}, part {number}": v for k, v in tensors.items()}
        return values
