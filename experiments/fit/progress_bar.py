"""The progress bar: Lightning's, drawn a few times a second and not at each step."""

import importlib.util
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from typing_extensions import override

DRAWINGS_A_SECOND = 4
"""Lightning's bar has a thread that draws 100 times a second, while the training waits for it."""
_UNWATCHED_SECONDS = 1.0
"""Between two steps that a bar is told of which no terminal shows: a log gets its last state."""


class _SeldomDrawn(ProgressBar):
    """A bar that is told of a step now and then, and of an epoch's last one always."""

    _next_seconds = 0.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now >= self._next_seconds or batch_idx + 1 >= self.total_train_batches:
            watched = sys.stdout.isatty() or hasattr(sys, "ps1")  # a terminal, or a notebook
            self._next_seconds = now + (1 / DRAWINGS_A_SECOND if watched else _UNWATCHED_SECONDS)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class _Rich(_SeldomDrawn, RichProgressBar):
    """Rich's bar."""


class _Tqdm(_SeldomDrawn, TQDMProgressBar):
    """tqdm's bar, where rich is not installed."""


def progress_bar() -> ProgressBar:
    """Return the bar that Lightning would take, drawn :data:`DRAWINGS_A_SECOND` times a second."""
    if importlib.util.find_spec("rich") is None:
        return _Tqdm()
    return _Rich(refresh_rate=DRAWINGS_A_SECOND)
