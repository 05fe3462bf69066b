"""Where a run stands, in words: a header, a line now and then, and what to do at its end."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from callbacks.step_callback import StepCallback

SECONDS_BETWEEN_LINES = 30.0


@dataclass(eq=False)
class RunProgress(StepCallback):
    """Say what is trained when it begins, how far it is, and the next command when it ends.

    Lines in between are for logs of jobs, where no terminal shows the progress bar. Steps are
    optimizer steps.
    """

    header: Sequence[str]
    """Lines that stand before the first step."""
    next_commands: Sequence[str] = ()
    """To be run with what the run leaves."""
    total_steps: int | None = None
    """Optimizer steps of the whole run, before which it may be told to stop."""
    seconds_between_lines: float = SECONDS_BETWEEN_LINES

    def __post_init__(self) -> None:
        self._started = self._last_line = 0.0
        self._first_step = 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._first_step = trainer.global_step
        self._started = self._last_line = time.monotonic()
        total = sum(parameter.numel() for parameter in pl_module.parameters())
        training = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        rank_zero_info(
            "\n".join(
                [
                    *self.header,
                    f"  parameters that train: {_count(training)} of {_count(total)}",
                    f"  at step {trainer.global_step} of {trainer.max_steps}",
                ]
            )
        )

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.monotonic()
        # A terminal has a progress bar.
        if not trainer.is_global_zero or sys.stderr.isatty():
            return
        if now - self._last_line < self.seconds_between_lines:
            return
        self._last_line = now
        rank_zero_info(self.line(trainer, now))

    def line(self, trainer: Trainer, now: float) -> str:
        """Return where the run stands at the time ``now`` of the monotonic clock, on one line."""
        step, last = trainer.global_step, trainer.max_steps
        parts = [f"step {step} of {last} ({step / max(last, 1):.0%})"]
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:
            parts.append(f"loss {float(loss):.3f}")
        if trainer.optimizers:
            rates = {group["lr"] for group in trainer.optimizers[0].param_groups}
            parts.append(f"learning rate {max(rates):.2g}")
        # Of this start alone: earlier ones may have run on another machine.
        seconds_a_step = (now - self._started) / max(step - self._first_step, 1)
        parts.append(f"{seconds_a_step:.2g} s a step")
        parts.append(f"{duration((last - step) * seconds_a_step)} left")
        return ", ".join(parts)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.monotonic() - self._started
        done = trainer.global_step - self._first_step
        step = trainer.global_step
        lines = [f"trained {done} steps in {duration(seconds)}; now at step {step}"]
        if self.total_steps is not None and trainer.max_steps <= step < self.total_steps:
            lines.append(
                f"stopped by trainer.stop_after_steps={trainer.max_steps}, before the end at step "
                f"{self.total_steps}; without it the same command goes on"
            )
        if step >= trainer.max_steps and self.next_commands:
            lines += ["next:", *(f"  {command}" for command in self.next_commands)]
        rank_zero_info("\n".join(lines))


def duration(seconds: float) -> str:
    """Write a duration for people: ``45 s``, ``12 min``, ``3 h 20 min``, ``8 d 4 h``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
