"""Training of a small network on samples in memory, resumed from the last whole epoch."""

import warnings
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from callbacks.step_checkpoint import AtomicCheckpointIO
from callbacks.step_seed import StepSeed
from data_modules.segment_labels import SampleDataModule
from experiments.fit.run import silence_libraries
from vidreason.baselines.anticipation.module import SampleModule, still_falls
from vidreason.training.checkpoint import newest_checkpoint


def fit_samples(
    module: SampleModule,
    data: SampleDataModule,
    folder: Path,
    *,
    num_epochs: int,
    device: str,
    seed: int,
) -> None:
    """Train to the end, from the newest checkpoint in ``folder`` if there is one.

    Args:
        module: What is trained; a checkpoint fills it.
        data: Its batches.
        folder: For the checkpoints, one an epoch; the newest is kept.
        num_epochs: Epochs altogether.
        device: As PyTorch names it.
        seed: Of whatever a step draws.

    Raises:
        ValueError: All checkpoints are damaged, or they are of another training.
    """
    silence_libraries()
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        rank_zero_info(f"continued from {checkpoint}")
    kind, _, number = device.partition(":")
    trainer = Trainer(
        accelerator="cpu" if kind == "cpu" else "gpu",
        devices=[int(number)] if number else 1,
        max_epochs=num_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        deterministic=kind == "cpu",
        callbacks=[
            StepSeed(seed),
            ModelCheckpoint(
                folder,
                filename="step-{step:08d}",
                auto_insert_metric_name=False,
                every_n_epochs=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
        ],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    path = None if checkpoint is None else str(checkpoint)
    with warnings.catch_warnings():
        # That is what a run is resumed from.
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    losses = module.epoch_losses
    said = "still falls: train it longer" if still_falls(losses) else "has settled"
    print(f"training loss of the last epoch: {losses[-1]:.4f}, which {said}", flush=True)
