"""Random numbers that depend on the training step alone, so that a resumed run draws the same ones.

Lightning 2.6 does not restore the random number generators of torch, numpy and Python. Storing them
would not be
enough: between a checkpoint and the next step an uninterrupted run may validate, generate samples
or start an epoch, all of which draw, and a resumed run does not repeat them.
"""

import hashlib
import random
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override


def step_seed(seed: int, rank: int, epoch: int, batch_index: int) -> int:
    """A 64-bit seed for one micro-batch of one rank; similar arguments give unrelated seeds."""
    text = f"{seed}:{rank}:{epoch}:{batch_index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class StepSeed(Callback):
    """Seed torch, numpy and Python before each batch from (seed, rank, epoch, batch index)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._has_accelerator = torch.accelerator.is_available()  # 0.3 ms, in the midst of steps

    @override
    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        seed = step_seed(self.seed, trainer.global_rank, trainer.current_epoch, batch_idx)
        if self._has_accelerator:
            torch.manual_seed(seed)
        else:  # 100 times as fast: the other notes a stack trace for each device that is not there
            torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
