"""Before step 1, run a batch of the largest shape that the configuration allows.

Lengths differ from batch to batch, and one that does not fit may come after hours.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from vidreason.model import VideoReasoner
from vidreason.training.sharded_values import of_each_rank
from vidreason.training.stage import StageModule, TrainingBatch
from vidreason.training.trainable import set_trainable

_GIB = 2**30  # bytes


@dataclass(eq=False)
class LargestBatch(Callback):
    """Run the largest batch forward and backward on every rank; leave nothing of it behind.

    Everything that trains at any time of the run trains, the optimizer's future states are
    allocated, and where micro-batches accumulate, a second one follows with the gradients of the
    first. Afterwards there are no gradients, and weights, optimizer, sums and random numbers are as
    they were.

    Under DDP each rank does this for itself, and all fail together if one does. Under FSDP they
    take part in each other's steps: a rank that fails ends, and the launcher ends the others.
    """

    make_batch: Callable[[VideoReasoner], TrainingBatch]
    """Makes the batch for a reasoner, with valid contents, on the CPU."""
    remedy: Callable[[], str]
    """Called for the message if it does not fit: the expected memory, and what helps."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StageModule)
        failure = ""
        try:
            self._rehearse(trainer, pl_module)
        except torch.OutOfMemoryError as error:
            failure = f"{pl_module.device} of rank {trainer.global_rank}: {error}"
            # Ranks that share weights wait for each other: one that failed cannot tell them.
            alone = isinstance(trainer.strategy.model, DistributedDataParallel | StageModule)
            alone = alone and not isinstance(pl_module.reasoner, FSDPModule)
            if trainer.world_size > 1 and not alone:
                raise self._explained(failure) from error
        failures = [text for text in of_each_rank(failure) if text]
        if failures:
            raise self._explained(failures[0])
        if pl_module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(pl_module.device) / _GIB
            size = torch.cuda.get_device_properties(pl_module.device).total_memory / _GIB
            rank_zero_info(f"the largest batch took {peak:.1f} of {size:.1f} GiB")
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def _rehearse(self, trainer: Trainer, module: StageModule) -> None:
        strategy = trainer.strategy
        # What trains now; the rehearsal trains whatever will train at any time.
        training = {n for n, p in module.reasoner.named_parameters() if p.requires_grad}
        devices = [module.device] if module.device.type == "cuda" else []
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices))
            if isinstance(strategy, ParallelStrategy):
                # Ranks do not wait for each other's gradients: one that fails would leave the
                # others waiting.
                stack.enter_context(strategy.block_backward_sync())
            stack.callback(set_trainable, module.reasoner, training)
            stack.callback(module.zero_grad)
            set_trainable(module.reasoner, module.trainable)
            module.on_train_start()  # resets its sums; Lightning calls it again after callbacks
            # A step holds the optimizer's state as well.
            held = _future_states(trainer)
            # Two micro-batches are as bad as more: the second has the gradients of the first beside
            # it.
            for _ in range(min(trainer.accumulate_grad_batches, 2)):
                batch = trainer.precision_plugin.convert_input(self.make_batch(module.reasoner))
                # Not by the strategy, on whose way the data module counts what was consumed.
                batch = move_data_to_device(batch, module.device)
                loss = strategy.training_step(batch, 0)
                assert isinstance(loss, torch.Tensor)
                loss.backward()  # type: ignore[no-untyped-call]
                del batch, loss
            del held

    def _explained(self, failure: str) -> ValueError:
        return ValueError(
            f"a batch of the largest shape does not fit into the memory of {failure}: "
            f"{self.remedy()}; trainer.rehearse_largest_batch=false skips this check"
        )


def _future_states(trainer: Trainer) -> list[torch.Tensor]:
    """Allocate what AdamW's two means will take, unless they are there already."""
    return [
        torch.empty_like(parameter.to_local() if isinstance(parameter, DTensor) else parameter)
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter not in optimizer.state
        for _ in range(2)
    ]
