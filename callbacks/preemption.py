"""Preemption: a run told to stop finishes its step, saves, and ends with a status that says so.

Schedulers announce the end of a job's time, or a job of higher priority, by a signal. SLURM's
``--signal`` sends SIGUSR1; its preemption, ``scancel`` and most other schedulers send SIGTERM.
Whoever sits at the terminal presses Ctrl-C. All three mean the same here: stop soon, lose nothing.

Lightning's own answers are switched off. Its SIGTERM handler broadcasts to the other ranks from
within the handler, in the midst of whatever collective the process is in; its SLURM handler saves
from there too, in the middle of an accumulated step, to a file of its own that the next start
prefers to any other checkpoint.
"""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.step_callback import StepCallback
from callbacks.step_checkpoint import StepCheckpoint

PREEMPTED_STATUS = os.EX_TEMPFAIL
"""75, "try again later": after SIGTERM or SIGUSR1. The same command continues the run; the scripts
in ``experiments/slurm`` put the job back into the queue."""

INTERRUPTED_STATUS = 128 + signal.SIGINT
"""130, as a shell has it: after Ctrl-C."""

SAME_REQUEST_SECONDS = 2.0
"""A signal may reach a process twice: from the scheduler, and from a launcher that passes it on.
One that comes this soon after the first is no second request."""

STATUS_OF_SIGNAL = {
    signal.SIGUSR1: PREEMPTED_STATUS,
    signal.SIGTERM: PREEMPTED_STATUS,
    signal.SIGINT: INTERRUPTED_STATUS,
}


class Stopped(SystemExit):
    """Raised by all ranks at the same step, when what was trained is saved; ``code`` says why."""


class StopRequest:
    """A request to this process to stop, made by a signal.

    A process that is forked meanwhile inherits the handler and ignores a first signal: a scheduler
    signals all processes of a job, and the workers are for this process to end.

    Attributes:
        status: The exit status that was requested, or 0.
        has_work: There is something to finish and save. Before and after training there is not,
            and signals have their usual effect.
    """

    def __init__(self) -> None:
        self.status = 0
        self.has_work = False
        self._process = os.getpid()
        self._announces = False
        self._first_seconds: dict[int, float] = {}
        self._former: dict[int, Any] = {}

    def listen(self, *, announce: bool = True) -> None:
        """Handle the signals of ``STATUS_OF_SIGNAL`` from now on; ``announce`` prints each."""
        self._announces = announce
        self._former = {number: signal.signal(number, self.receive) for number in STATUS_OF_SIGNAL}

    def ignore(self) -> None:
        """Restore the former handlers."""
        while self._former:
            signal.signal(*self._former.popitem())

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Record a signal; a second SIGTERM or SIGINT ends the process at once.

        SIGUSR1 only requests. A SIGTERM after it, SLURM's at the end of the time, is a first one.
        """
        # Nothing to save yet, or no longer: the signal does what it did before.
        if not self.has_work and os.getpid() == self._process:
            signal.signal(number, self._former[number])
            signal.raise_signal(number)
            return
        now = time.monotonic()
        seconds = now - self._first_seconds.setdefault(number, now)
        if seconds > SAME_REQUEST_SECONDS and number != signal.SIGUSR1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self.status == 0 and self._announces and os.getpid() == self._process:
            name = signal.Signals(number).name
            # Not print(): the signal may have come in the midst of one.
            os.write(2, f"{name}: finishing the step and saving; a second stops at once\n".encode())
        # Of two requests the higher status counts: Ctrl-C is not to be resumed by itself.
        self.status = max(self.status, STATUS_OF_SIGNAL[signal.Signals(number)])


class Preemption(StepCallback, Checkpoint):
    """Stop all ranks at the same step if any of them was told to, after one save.

    A signal may reach some ranks only. So they agree, by one number on the host: after each
    optimizer step, and in validation, which is then left, after each batch that all of them have.
    The save holds what an uninterrupted run would save at that step; :class:`Stopped` is raised
    after it.

    It is a ``Checkpoint`` so that Lightning calls it last, after ``checkpoint``.

    Args:
        checkpoint: Saves, unless it has done so at that step.
    """

    def __init__(self, checkpoint: StepCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.request = StopRequest()
        self._group: Any = None
        self._common_batches = 0

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the loaders start worker processes. Lightning would set its own handlers next.
        self.request.listen(announce=trainer.is_global_zero)
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        if trainer.world_size > 1:
            # On the host: a reduction on the device would make it wait for the device.
            self._group = torch.distributed.new_group(backend="gloo")

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.request.has_work = True

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_requested(trainer, self.checkpoint.save_step)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The ranks' shares of the validation set may be unequal.
        num_batches = sum(int(number) for number in trainer.num_val_batches)
        # The smallest number: up to there all ranks have a batch, and may agree on stopping.
        self._common_batches = -self._largest(-num_batches)

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking and batch_idx < self._common_batches:
            self._stop_if_requested(trainer, self.checkpoint.save_once)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._stop_if_requested(trainer, self.checkpoint.save_once)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.request.has_work = False

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, Stopped):
            self.request.ignore()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.request.ignore()

    def _stop_if_requested(self, trainer: Trainer, save: Callable[[Trainer], None]) -> None:
        status = self._largest(self.request.status)
        if not status:
            return
        save(trainer)
        # The first process to end may make the launcher end the others.
        trainer.strategy.barrier("stopped")
        rank_zero_info(
            f"stopped after step {trainer.global_step}, which is saved; the same command goes on"
        )
        # Lightning's launcher kills rank 0 when it sees another rank that did not end with 0.
        strategy = trainer.strategy
        launched = isinstance(strategy, ParallelStrategy) and isinstance(
            strategy.cluster_environment, LightningEnvironment
        )
        raise Stopped(0 if launched and trainer.local_rank > 0 else status)

    def _largest(self, number: int) -> int:
        """Return the largest of all ranks' numbers; collective."""
        if self._group is None:
            return number
        numbers = torch.tensor(number)  # on the host
        torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, self._group)
        return int(numbers)
