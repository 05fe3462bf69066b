"""Both training stages as one LightningModule (section 3.4).

Notable choices:

* What a stage trains is one table, :data:`vidreason.training.trainable.STAGE_PARTS`.
* The loss of an optimizer step is the sum over its target tokens divided by their number, over all
  micro-batches and ranks; Lightning's and DDP's means are undone.
* A checkpoint holds the parameters that train, and no others, whatever the strategy.
* A step's loss and gradient norm are computed once, for logging, clipping and the step guard.
"""

import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, Self, TypedDict, cast

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import VisualBatch
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.packed_attention import padding_reason
from vidreason.reasoning.text_batch import TextBatch
from vidreason.training.checkpoint import (
    PREFIX,
    check_shapes,
    check_trainable,
    load_trainable,
    trainable_state,
)
from vidreason.training.checkpoint_format import (
    RECORD,
    RunIdentity,
    check_frozen,
    make_record,
    name_optimizer_state,
    read_record,
    restore_random_state,
)
from vidreason.training.config import OptimizerConfig, Part, Stage
from vidreason.training.engine_step import divide_gradients, is_step
from vidreason.training.loss import next_token_loss
from vidreason.training.optimizer import (
    build_optimizer,
    build_schedule,
    gradient_norms,
    join_schedule,
)
from vidreason.training.recorded_stage import recorded_stage
from vidreason.training.sharding import shard
from vidreason.training.step_metrics import log_step, optimizer_metrics
from vidreason.training.trainable import set_trainable, trainable_names

_BAR_SECONDS = 1.0
"""Shortest time between two updates of the loss in the progress bar alone."""


class TrainingBatch(TypedDict):
    """The entries of a data module's batch that training reads; see ``VideoReasoner.forward``."""

    visual: VisualBatch
    text: TextBatch


class PredictionBatch(TypedDict):
    """The entries of a batch of ``trainer.predict``."""

    visual: VisualBatch
    prompts: list[str]


class StageModule(LightningModule):
    """Train the parts of a reasoner that belong to a stage.

    Metrics, of the optimizer step or of the whole validation or test, over all ranks:

    - ``train/loss``, ``val/loss``, ``test/loss``: mean loss per target token.
    - ``train/target_tokens``: target tokens of the step.
    - ``train/learning_rate``: of the first part; with several parts also one of each,
      ``train/learning_rate_{part}``.
    - ``train/gradient_norm_{part}``: norm of a part's gradient before clipping.

    Args:
        reasoner: The reasoner; its other parameters are frozen.
        optimizer: AdamW and its schedule.
        total_steps: Optimizer steps of the whole run, from the configuration: asking the trainer
            for them makes Lightning 2.6 skip the restoring of the data position.
        stage: ``alignment`` (stage 1), or ``instruction`` (stage 2), which needs LoRA adapters, or
            the language model among ``thawed``.
        initial_checkpoint: Stage 1's checkpoint, from which stage 2's fusion core starts; empty to
            leave it as it is, as when the run continues from a checkpoint of its own.
        thawed: Parts of the freeze schedule, which train besides what the stage does.

    Attributes:
        trainable: Names of all parameters that train at any time of the run, and are in the
            optimizer and the checkpoints. The freeze schedule may add to it in its ``setup``.
        identity: The run's identity in its checkpoints; the program sets it.

    Raises:
        ValueError: The reasoner has no adapters, or the initial checkpoint does not fit. In
            ``setup``: it was made with another language model or video encoder.
    """

    def __init__(
        self,
        reasoner: VideoReasoner,
        optimizer: OptimizerConfig,
        total_steps: int,
        stage: Stage,
        initial_checkpoint: str = "",
        thawed: Collection[Part] = (),
    ) -> None:
        super().__init__()
        self.reasoner = reasoner
        self.optimizer_config = optimizer
        self.total_steps = total_steps
        self.stage = stage
        self.identity = RunIdentity()
        self.initial_checkpoint = initial_checkpoint
        self._initial_frozen: dict[str, str] = {}
        if initial_checkpoint:
            names = trainable_names(reasoner, "alignment")
            # Stage 1 trained the fusion core alone, so its checkpoint has nothing for the adapters.
            self._initial_frozen = load_trainable(reasoner, initial_checkpoint, names)
        self._random_state: dict[str, Any] | None = None
        self.trainable = trainable_names(reasoner, stage, thawed)
        set_trainable(reasoner, self.trainable)
        # Checkpoints hold no frozen parameters; on_load_checkpoint is strict about the others.
        self.strict_loading = False
        # Sum of the loss and number of target tokens; validation may run in the middle of a step.
        self._step_totals = torch.zeros(2)
        self._step_loss: tuple[Tensor, Tensor, Tensor] | None = None
        self._step_norm: Tensor | None = None
        self._part_norms: dict[Part, Tensor] = {}
        self._validation_totals = torch.zeros(2)
        self._shown_at = -math.inf

    @classmethod
    @override
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[Any],
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a module from a checkpoint of ``fit``, with the reasoner that its record describes.

        Args:
            checkpoint_path: A checkpoint of any form: a file, or a folder of a distributed one.
            map_location: Device to put it on; None for the CPU.
            hparams_file: Without effect: the checkpoint itself has the settings.
            strict: Without effect: what trains has to be there, and nothing else.
            weights_only: Without effect: nothing in a checkpoint is executed.
            kwargs: ``reasoner``, to use one instead of building it, ``optimizer`` and
                ``total_steps``, to train on by another schedule. By default the schedule is the
                recorded one, at its end.

        Raises:
            ValueError: There is no such checkpoint, it is damaged, or it does not fit the reasoner
                or its frozen parts, which must be where the record says.
        """
        if not isinstance(checkpoint_path, str | Path):
            raise ValueError("checkpoint_path is an open file; give the path of the checkpoint")
        path = Path(checkpoint_path)
        recorded = recorded_stage(path, kwargs.get("reasoner"), kwargs.get("optimizer"))
        total_steps = kwargs.get("total_steps") or recorded.total_steps
        module = cls(recorded.reasoner, recorded.optimizer, total_steps, recorded.stage)
        # A freeze schedule may have trained more than the stage does.
        module.identity, module.trainable = recorded.identity, recorded.trainable
        set_trainable(module.reasoner, module.trainable)
        load_trainable(module.reasoner, path, module.trainable)
        return module if map_location is None else module.to(map_location)

    @override
    def setup(self, stage: str) -> None:
        # Not in __init__: rank 0 hashes the parts for all, and before the launch there is none.
        if self._initial_frozen:
            source = f"initial_checkpoint {self.initial_checkpoint!r}"
            check_frozen(self._initial_frozen, self.identity.frozen(), source)

    @override
    def configure_model(self) -> None:
        # Lightning calls it more than once; there is a mesh under FSDP2 alone.
        if self.device_mesh is not None and not isinstance(self.reasoner, FSDPModule):
            shard(self.reasoner, self.device_mesh["data_parallel"])

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.reasoner, self.trainable, self.optimizer_config)
        name_optimizer_state(optimizer, self)
        schedule = build_schedule(optimizer, self.total_steps, self.optimizer_config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @override
    def on_fit_start(self) -> None:
        self.train()  # frozen modules stay in eval mode, see VideoReasoner.train
        model = causal_lm(self.reasoner.language_model)
        if reason := padding_reason(model):
            name = type(model).__name__
            rank_zero_warn(f"{name} cannot be told where rows begin: {reason}; batches are padded")

    @override
    def on_train_start(self) -> None:
        self._step_totals = torch.zeros(2, device=self.device)
        if self._random_state is not None:
            restore_random_state(self._random_state)
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        if longer := join_schedule(schedule, self.trainer.global_step):
            rank_zero_info(longer)

    @override
    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        loss_sum, count = self._loss(batch)
        self._step_totals += torch.stack([loss_sum.detach(), count])  # (2,)
        # Where the batch is the whole step, its gradients need not be gone through once more.
        return loss_sum / count.clamp(min=1) if self._batch_is_step() else loss_sum

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the gradients those of the whole step's loss per target token; before clipping.

        Each of several micro-batches gave the gradient of its *sum*. Lightning divided it by their
        number, where it accumulates, and DDP by the number of ranks: both are undone.
        """
        strategy = self.trainer.strategy
        if isinstance(strategy, DeepSpeedStrategy) and not is_step(strategy):
            return
        loss, count, scale = self.step_loss()
        part_norms = self._part_norms
        # Taken: what follows belongs to the next step.
        self._step_loss, self._part_norms = None, {}
        self._step_totals = torch.zeros(2, device=self.device)
        # DeepSpeed holds the gradients itself, where no hook reaches them: it divides them in its
        # step.
        if isinstance(strategy, DeepSpeedStrategy):
            divide_gradients(strategy, 1 / float(scale))
        if not self._batch_is_step():
            part_norms = {}  # of other gradients than these will be
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(scale)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined] # it has it
        is_logged = (self.trainer.global_step + 1) % every == 0
        # Between two steps that the loggers write, only somebody at the progress bar sees the loss.
        now = time.monotonic()
        if is_logged or now - self._shown_at >= _BAR_SECONDS:
            self._shown_at = now
            log_step(self, {"train/loss": loss}, prog_bar=True)
        if is_logged:
            metrics = optimizer_metrics(optimizer, part_norms)
            log_step(self, {"train/target_tokens": count, **metrics})

    def step_loss(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss and weight of the optimizer step that ends, over micro-batches and ranks.

        Collective when it is first called for a step.

        Returns:
            The loss per target token, the number of target tokens, and what the gradients have to
            be multiplied with to be those of this loss; each without a dimension.
        """
        if self._step_loss is None:
            loss_sum, count = self._reduce(self._step_totals)
            # Lightning and DDP have divided the sums by these two; the target tokens are what they
            # should have been divided by.
            divided_by = self.trainer.accumulate_grad_batches * self.trainer.world_size
            scale = torch.ones_like(count) if self._batch_is_step() else divided_by / count
            self._step_loss = loss_sum / count, count, scale
        return self._step_loss

    def step_gradient_norm(self, optimizer: Optimizer) -> Tensor:
        """Return the gradient norm of the step that ends, for its loss per target token.

        Clipping uses it, too: a pass over all gradients takes about as long as clipping them.
        Collective when it is first called for a step.
        """
        if self._step_norm is None:
            self._part_norms = gradient_norms(optimizer)
            norms = list(self._part_norms.values())
            _, _, scale = self.step_loss()
            # Norms of unscaled gradients; a scale of all of them scales the norm.
            norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else 0
            self._step_norm = scale * norm
        return self._step_norm

    def _batch_is_step(self) -> bool:
        """Return whether a step has one micro-batch, on one rank."""
        return self.trainer.accumulate_grad_batches * self.trainer.world_size == 1

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip_norm = self.optimizer_config.gradient_clip_norm or gradient_clip_val
        # For this step alone.
        norm, self._step_norm = self._step_norm, None
        sharded = self.device_mesh is not None
        if clip_norm is None or norm is None or sharded or gradient_clip_val is not None:
            # Lightning raises if the trainer is configured to clip at another value.
            self.clip_gradients(optimizer, clip_norm, gradient_clip_algorithm or "norm")
        else:
            # On the host it costs no waiting to see that all would be multiplied with 1.
            if norm.device.type == "cpu" and float((clip_norm / (norm + 1e-6)).clamp(max=1)) == 1:
                return
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            clip_grads_with_norm_(parameters, clip_norm, norm)

    @override
    def on_validation_epoch_start(self) -> None:
        self._validation_totals = torch.zeros(2, device=self.device)

    @override
    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        self._validation_totals += torch.stack(self._loss(batch))  # sum and count

    @override
    def on_validation_epoch_end(self) -> None:
        loss_sum, count = self._reduce(self._validation_totals)
        self.log("val/loss", loss_sum / count, prog_bar=True)

    @override
    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    @override
    def test_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    @override
    def on_test_epoch_end(self) -> None:
        loss_sum, count = self._reduce(self._validation_totals)
        self.log("test/loss", loss_sum / count)

    @override
    def predict_step(self, batch: PredictionBatch, batch_idx: int) -> list[str]:
        return self.reasoner.generate(batch["visual"], batch["prompts"])

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trainable_state(self.reasoner, self.trainable)
        checkpoint[RECORD] = make_record(self)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        source = "the checkpoint to continue from"
        record = read_record(checkpoint, source)
        # DeepSpeed keeps the values to itself, and reads them itself.
        state = checkpoint.get("state_dict", [PREFIX + name for name in record["trainable"]])
        check_trainable(state, self.trainable, source)
        if isinstance(state, dict) and not any(hasattr(p, "ds_id") for p in self.parameters()):
            check_shapes(state, self.reasoner, source)  # torch's message has a line per tensor
        check_frozen(record["frozen"], self.identity.frozen(), source)
        # At another number of processes there is no state for each; StepSeed seeds all steps.
        if record["world_size"] == self.trainer.world_size:
            self._random_state = record["rng"][self.global_rank]

    def _loss(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        return next_token_loss(self.reasoner(batch["visual"], batch["text"]))

    def _reduce(self, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss sum and number of target tokens, at least 1, over all ranks."""
        reduced = cast(Tensor, self.trainer.strategy.reduce(totals, reduce_op="sum"))
        return reduced[0], reduced[1].clamp(min=1)
