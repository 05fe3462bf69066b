"""Training of a small network, resumed from the last whole epoch, and its held-out metrics."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from callbacks.step_checkpoint import AtomicCheckpointIO
from callbacks.step_seed import StepSeed
from data_modules.epoch_loader import epoch_loader
from experiments.fit.run import silence_libraries
from experiments.train_baseline.config import TrainBaselineConfig
from vidreason.baselines.epoch_losses import EpochLossModule, still_falls
from vidreason.training.checkpoint import newest_checkpoint


def sample_loader(
    config: TrainBaselineConfig, collate: Callable[[list[Any]], Any] | None = None
) -> Callable[..., DataLoader[Any]]:
    """Return :func:`data_modules.epoch_loader.epoch_loader` with the settings of a training."""
    return partial(
        epoch_loader,
        batch_size=getattr(config, config.kind).batch_size,
        seed=config.seed,
        num_workers=config.num_workers,
        collate=collate,
    )


def fit_samples(
    module: EpochLossModule,
    batches: DataLoader[Any],
    folder: Path,
    *,
    num_epochs: int,
    device: str,
    seed: int,
    gradient_clip_norm: float | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint in ``folder`` if there is one.

    Args:
        module: What is trained; a checkpoint fills it.
        batches: Of :func:`data_modules.epoch_loader.epoch_loader`.
        folder: For the checkpoints, one an epoch; the newest is kept.
        num_epochs: Epochs altogether.
        device: As PyTorch names it.
        seed: Of whatever a step draws.
        gradient_clip_norm: Largest norm of the whole gradient; None for the module's choice.
        callbacks: Further ones.

    Returns:
        Scores of the training: ``epoch_losses``, and ``still_falls``, true if it ended too early.

    Raises:
        ValueError: All checkpoints are damaged, or they are of another training.
    """
    silence_libraries()
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        rank_zero_info(f"continued from {checkpoint}")
    trainer = Trainer(
        **_quiet(device),
        max_epochs=num_epochs,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        # The held-out score is that of the end: see held_out_metrics.
        check_val_every_n_epoch=num_epochs + 1,
        gradient_clip_val=gradient_clip_norm,
        deterministic=device.startswith("cpu"),
        callbacks=[
            StepSeed(seed),
            ModelCheckpoint(
                folder,
                filename="step-{step:08d}",
                auto_insert_metric_name=False,
                every_n_epochs=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,  # a file of the same step is replaced
            ),
            *callbacks,
        ],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
    )
    path = None if checkpoint is None else str(checkpoint)
    with warnings.catch_warnings():
        # That is what a run is resumed from.
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        # It comes after the end: see held_out_metrics.
        warnings.filterwarnings("ignore", "You defined a .validation_step. but have no")
        # A batch of unreadable videos, which are counted elsewhere.
        warnings.filterwarnings("ignore", ".training_step. returned .None.")
        # A checkpoint is read without running what it holds.
        trainer.fit(module, batches, ckpt_path=path, weights_only=True)
    losses = module.epoch_losses
    falls = still_falls(losses)
    said = "still falls: train it longer" if falls else "has settled"
    print(f"training loss of the last epoch: {losses[-1]:.4f}, which {said}", flush=True)
    return {"epoch_losses": losses, "still_falls": falls}


def held_out_metrics(
    module: EpochLossModule,
    batches: DataLoader[Any],
    *,
    device: str,
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Return the ``val/`` metrics of a module, without this prefix.

    Args:
        module: The module, trained.
        batches: What is held out, in its own order.
        device: As PyTorch names it.
        callbacks: Callbacks of the validation.
    """
    silence_libraries()
    trainer = Trainer(**_quiet(device), enable_checkpointing=False, callbacks=list(callbacks))
    metrics = trainer.validate(module, batches, verbose=False)
    return {name.removeprefix("val/"): value for part in metrics for name, value in part.items()}


def _quiet(device: str) -> dict[str, Any]:
    """Arguments of a trainer on one device, which shows and logs nothing of its own."""
    kind, _, number = device.partition(":")
    return {
        "accelerator": "cpu" if kind == "cpu" else "gpu",
        "devices": [int(number)] if number else 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # the loader has its order
    }
