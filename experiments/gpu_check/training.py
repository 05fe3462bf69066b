"""Optimizer steps on the longest batch of a configuration: their time, and the memory they take."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader
from typing_extensions import override

from callbacks.step_callback import StepCallback
from callbacks.step_checkpoint import AtomicCheckpointIO
from data_modules.global_order import accumulation
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import largest_batch
from experiments.fit.run import silence_libraries
from experiments.fit.strategies import build_strategy
from experiments.gpu_check.results import Recorder
from experiments.gpu_check.setting import GIB
from vidreason.model import VideoReasoner
from vidreason.training.stage import StageModule

NUM_STEPS = 3
"""The first makes the optimizer's state, and what is compiled or chosen once."""
MAX_MICRO_BATCHES = 2
"""As the estimate of memory has it: one, and one that finds the gradients of another."""
PEAK = "peak"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Results of training steps."""

    seconds: list[float]
    """Wall time of each step."""
    loss: float
    """Loss of the last step, per target token."""
    samples: int
    """In a step."""
    positions: int
    """Positions of the language model, in a step."""


class StepTimes(StepCallback):
    """Seconds from the end of one optimizer step to that of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last = now(pl_module.device)

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last, self._last = self._last, now(pl_module.device)
        self.seconds.append(self._last - last)


def train(config: ExperimentConfig, reasoner: VideoReasoner) -> Trained:
    """Train ``NUM_STEPS`` steps, each of at most two micro-batches, through Lightning's Trainer."""
    silence_libraries()
    module = StageModule(reasoner, config.optimizer, total_steps=1000, stage=config.stage)
    batch = largest_batch(config).make_batch(reasoner)
    wanted = accumulation(config.data.global_batch_size, config.data.batch_size, 1)
    micro_batches = min(wanted, MAX_MICRO_BATCHES)
    times = StepTimes()
    trainer = Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        strategy=build_strategy(config),
        precision=config.trainer.precision,
        max_steps=NUM_STEPS,
        log_every_n_steps=NUM_STEPS,  # the last step logs its loss
        accumulate_grad_batches=micro_batches,
        callbacks=[times],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    # The longest batch, again and again; the loader neither batches nor collates it.
    batches: Any = [batch] * (NUM_STEPS * micro_batches)
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=_as_it_is))
    samples = config.data.batch_size * micro_batches
    return Trained(
        seconds=times.seconds,
        loss=float(trainer.callback_metrics["train/loss"]),
        samples=samples,
        # The last token of a row predicts nothing.
        positions=samples * (reasoner.fusion.num_embeddings + config.data.max_text_tokens - 1),
    )


def record_training(record: Recorder, trained: Trained) -> None:
    """Record time and loss of steps."""
    # Without the first step, see NUM_STEPS; of the others the fastest, as interference only adds.
    seconds = min(trained.seconds[1:])
    record("step", seconds, "s")
    record("positions a second", trained.positions / seconds, "1/s")
    record("samples a second", trained.samples / seconds, "1/s")
    record("samples a step", trained.samples)
    record("positions a step", trained.positions)
    record("first step", trained.seconds[0], "s")
    record("loss", trained.loss, "nats a target token")


def reset_peak(device: torch.device) -> None:
    """Let the peak of a GPU's memory start from what is held now."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def record_peak(record: Recorder, device: torch.device) -> None:
    """Record the peak since :func:`reset_peak`; on the CPU nothing, which does not count it."""
    if device.type == "cuda":
        record(PEAK, torch.cuda.max_memory_allocated() / GIB, "GiB")
        record("reserved", torch.cuda.max_memory_reserved() / GIB, "GiB")


def now(device: torch.device) -> float:
    """Seconds of a clock, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _as_it_is(batch: object) -> object:
    return batch
