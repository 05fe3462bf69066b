"""A stage under Lightning's Trainer, as ``fit`` builds it, against the bare loop.

The two take turns inside one run: the loader from which the Trainer fetches its batches makes the
bare loop's steps while the Trainer waits. So what starts and ends a run is not measured, and
everything between two batches is: moving them, hooks, callbacks, logging, the loop itself.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from data_modules.corpora import DataConfig
from data_modules.training_data import move_batch
from data_modules.video_text import Batch
from experiments.benchmark.paired import Clock, ratios, spread
from experiments.benchmark.training_steps import (
    OPTIMIZER,
    BareLoop,
    StepBatch,
    copy_trained,
    joined_mean_loss,
)
from experiments.experiment_config import ExperimentConfig, TrainerConfig
from experiments.fit.run import build_trainer
from vidreason.model import VideoReasoner
from vidreason.training.config import Stage
from vidreason.training.stage import StageModule


class TurnsLoader:
    """Batches for the Trainer, with the bare loop's steps on the same batches in between.

    Rounds of ``steps`` batches: the bare loop comes first in even rounds and last in odd ones.
    Round 0 warms both up. One batch more than the rounds have lets the last of them end.

    Attributes:
        framework: Seconds of the Trainer in each round.
        bare: Seconds of the bare loop in each round.
    """

    def __init__(
        self,
        batches: Sequence[StepBatch],
        steps: int,
        run_bare: Callable[[Sequence[StepBatch]], object],
        clock: Clock,
    ) -> None:
        self.batches = batches
        self.steps = steps
        self.run_bare = run_bare
        self.clock = clock
        # The one batch beyond them is fetched when the last round has ended.
        self.rounds = (len(batches) - 1) // steps
        self.framework: list[float] = []
        self.bare: list[float] = []
        self._started = 0.0

    def __len__(self) -> int:
        """Known, so that Lightning fetches no batch ahead."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches):
            if number % self.steps == 0:
                self._pause(number // self.steps)
            yield batch.joined

    def _pause(self, turn: int) -> None:
        """Between round ``turn - 1`` and round ``turn``."""
        if turn > 0:
            self.framework.append(self.clock() - self._started)
        # The bare loop's steps of the round that has ended, if its number is odd, then those of the
        # one that begins, if it is even.
        for index in (turn - 1, turn):
            if 0 <= index < self.rounds and (index == turn) == (index % 2 == 0):
                started = self.clock()
                self.run_bare(self.batches[index * self.steps : (index + 1) * self.steps])
                self.bare.append(self.clock() - started)
        # Last, so that the bare loop's time is none of the Trainer's.
        self._started = self.clock()


class _Data(LightningDataModule):
    """A data module as far as ``fit`` needs one, around a loader."""

    num_unreadable = 0  # the throughput logs it

    def __init__(self, loader: TurnsLoader) -> None:
        super().__init__()
        self.loader = loader
        self.total_steps = len(loader)

    @override
    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.trainer.limit_val_batches = 0

    @override
    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return move_batch(batch, device)  # as the stages' data modules do

    @override
    def train_dataloader(self) -> TurnsLoader:
        return self.loader

    @override
    def val_dataloader(self) -> list[Batch]:
        return []


class _Losses(Callback):
    """Keep the loss of each step, which is one batch here."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.values.append(outputs["loss"])


def measure_framework(
    reasoner: VideoReasoner,
    stage: Stage,
    batches: Sequence[StepBatch],
    *,
    steps: int,
    clock: Clock,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Train copies of ``reasoner`` under the Trainer and bare.

    Args:
        reasoner: It stays as it is.
        stage: What trains.
        batches: ``steps`` for each round and for one to warm up, and one more.
        steps: Optimizer steps of a round.
        clock: Of the device.
        dtype: Of the frozen weights.

    Returns:
        Seconds a step of both, the overhead in percent, and how far the losses differ.
    """
    total = len(batches)
    # Both train copies with the same weights at the start, so that their losses must agree.
    bare = BareLoop(copy_trained(reasoner, stage), stage, joined_mean_loss, total, dtype)
    bare_losses: list[Tensor] = []
    loader = TurnsLoader(batches, steps, lambda turn: bare_losses.extend(bare.steps(turn)), clock)
    losses = _Losses()
    with tempfile.TemporaryDirectory() as folder:
        device = next(reasoner.parameters()).device
        trainer = _trainer(loader, stage, len(batches[0].row_lengths), device, dtype, folder)
        trainer.callbacks.append(losses)  # type: ignore[attr-defined] # Lightning declares no type
        module = StageModule(copy_trained(reasoner, stage), OPTIMIZER, total, stage)
        # Standard output is for the numbers.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.fit(module, datamodule=_Data(loader))
    differences = [
        abs(float(loss) - float(other)) / float(other)
        # The Trainer has made one step more, on the batch that ended the last round.
        for loss, other in zip(losses.values, bare_losses, strict=False)
    ]
    seconds = {
        # Round 0 warmed both up.
        name: [total / steps for total in turns[1:]]
        for name, turns in (("lightning", loader.framework), ("bare", loader.bare))
    }
    overhead = ratios(seconds, to="bare")["lightning"]
    return {
        "seconds_a_step": {name: spread(turns) for name, turns in seconds.items()},
        "overhead_percent": {name: 100 * (value - 1) for name, value in overhead.items()},
        "loss_difference": max(differences),
    }


def _trainer(
    loader: TurnsLoader,
    stage: Stage,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    folder: str,
) -> Trainer:
    """The Trainer of ``fit``, with its callbacks and loggers."""
    config = ExperimentConfig(
        stage=stage,
        run_dir=folder,
        optimizer=OPTIMIZER,
        data=DataConfig(batch_size=batch_size, global_batch_size=batch_size, num_epochs=1),
        trainer=TrainerConfig(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1,
            # Lightning warns of an interval that is longer than the run.
            log_every_n_steps=min(TrainerConfig().log_every_n_steps, len(loader)),
            precision="32-true" if dtype == torch.float32 else "bf16-mixed",
            # Both would lie outside of the rounds: after the last step, and before the first.
            save_reasoner=False,
            rehearse_largest_batch=False,
        ),
    )
    # The Trainer asks for the number of steps alone, and nothing is perceived.
    data, source = cast(Any, _Data(loader)), cast(Any, None)
    return build_trainer(config, data, source, None)
