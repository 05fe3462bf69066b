"""Skip harmful optimizer steps: a loss or gradient that is not finite, or a loss that spikes.

Such a step comes from a broken sample, an overflow, or a run that diverges. The first two pass; the
third does not, and should end the run while its last checkpoints are still good.
"""

import json
import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.optim import Optimizer
from typing_extensions import override

from vidreason.errors import ReportedError
from vidreason.training.config import StepGuardConfig
from vidreason.training.sharded_values import of_each_rank
from vidreason.training.stage import StageModule

SKIPPED_FILE = "skipped.jsonl"
"""In the run folder: the skipped steps, with their samples."""


class DivergedError(ReportedError):
    """Too many steps were skipped."""


class StepGuard(Callback):
    """Skip harmful optimizer steps, on all ranks alike, and record their samples.

    Weights and optimizer are then bit for bit as before. Everything else goes on: the samples are
    consumed, the step counts, and the learning rate takes its next value, so that any step of a run
    always has the same samples and the same learning rate, whatever was skipped before it.

    Ranks agree because they decide by the same two numbers, which are reduced over them: the loss
    of the whole step, over micro-batches and ranks, and the norm of its gradient. With a loss
    scaler (``16-mixed``) the gradient is not looked at: overflows are part of the scaler's search.

    Args:
        config: Steps to skip.
        run_dir: Gets ``SKIPPED_FILE``. Steps that are repeated after a kill are in it twice.
    """

    def __init__(self, config: StepGuardConfig, run_dir: str) -> None:
        self.config = config
        self.path = Path(run_dir) / SKIPPED_FILE
        self.num_skipped = 0
        self._losses: deque[float] = deque(maxlen=config.window)
        self._ids: list[str] = []
        """This rank's samples of the current step so far."""
        self._is_on = True

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"num_skipped": self.num_skipped, "losses": list(self._losses)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_skipped = state_dict["num_skipped"]
        self._losses.extend(state_dict["losses"])

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(trainer.strategy, DeepSpeedStrategy):
            return
        if self.config.skip_nonfinite or self.config.spike_deviations is not None:
            raise ValueError(
                "guard cannot leave steps out under DeepSpeed, which makes them itself: take "
                "guard.skip_nonfinite and guard.spike_deviations out, or set trainer.strategy"
            )
        rank_zero_info("steps without a finite loss are not left out: DeepSpeed makes its own")
        self._is_on = False

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._is_on:
            self._ids += batch["ids"]

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Lightning calls this before the module's hook, which scales and clips the gradients."""
        if not self._is_on:
            return
        ids, self._ids = self._ids, []
        loss, norm = self._measure(trainer, pl_module, optimizer)
        cause = self._cause(loss, norm)
        if not cause:
            # Only steps that were made say what is usual.
            self._losses.append(loss)
            return
        optimizer.zero_grad(set_to_none=True)  # AdamW passes over parameters without a gradient
        self.num_skipped += 1
        self._record(trainer, cause, loss, norm, ids)
        if self.num_skipped > self.config.max_skipped:
            raise DivergedError(
                f"{self.num_skipped} optimizer steps had to be left out, more than "
                f"guard.max_skipped={self.config.max_skipped}; the last is step "
                f"{trainer.global_step} ({cause}); {self.path} names their samples: look at these, "
                "or lower optimizer.learning_rate"
            )

    def _measure(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> tuple[float, float]:
        """Return loss and gradient norm of the step that ends, the same on all ranks."""
        assert isinstance(module, StageModule)
        loss, _, _ = module.step_loss()
        # With a loss scaler (float16) gradients are scaled and may overflow: it leaves such steps
        # out itself.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        norm = torch.zeros_like(loss) if scaled else module.step_gradient_norm(optimizer)
        # Equal on all ranks but maybe for the last bit, by which they must not disagree.
        measured = trainer.strategy.reduce(torch.stack([loss, norm]), reduce_op="mean")
        assert isinstance(measured, torch.Tensor)
        loss_value, norm_value = measured.tolist()
        return loss_value, norm_value

    def _cause(self, loss: float, norm: float) -> str:
        """Return the reason to skip the step; empty to make it."""
        if self.config.skip_nonfinite is not False:
            if not math.isfinite(loss):
                return f"loss {loss}"
            if not math.isfinite(norm):
                return f"gradient {norm}"
        if self.config.spike_deviations is None or len(self._losses) < self.config.window:
            return ""
        # A spike is far above the last losses; with fewer of them than the window nobody can tell.
        mean, deviation = statistics.fmean(self._losses), statistics.pstdev(self._losses)
        if loss > mean + self.config.spike_deviations * deviation:
            return f"loss {loss:.4g} above {mean:.4g}, deviation {deviation:.2g}"
        return ""

    def _record(
        self, trainer: Trainer, cause: str, loss: float, norm: float, ids: list[str]
    ) -> None:
        # Collective: all ranks get here, since they have the same loss.
        ids_by_rank = of_each_rank(ids)
        rank_zero_warn(f"step {trainer.global_step} is left out: {cause}")
        if trainer.is_global_zero:
            line: dict[str, Any] = {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "cause": cause,
            }
            measures = {"loss": loss, "gradient_norm": norm}
            # JSON has no NaN and no infinity.
            line |= {name: value for name, value in measures.items() if math.isfinite(value)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({**line, "ids_by_rank": ids_by_rank}) + "\n")
