"""An MCVD model, trained to predict the frames of videos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.epoch_loader import NumpyOrder
from data_modules.frame_windows import FrameWindows, collate_windows
from experiments.train_baseline.config import TrainBaselineConfig
from experiments.train_baseline.mcvd_config import McvdTrainingConfig
from experiments.train_baseline.run_folder import (
    check_settings,
    failure_log,
    save_scores,
    save_settings,
)
from experiments.train_baseline.sample_training import fit_samples, held_out_metrics, sample_loader
from experiments.writer_lock import sole_writer
from vidreason.baselines.mcvd.checkpoint import save_folder
from vidreason.baselines.mcvd.module import MCVDModule
from vidreason.devices import torch_device
from vidreason.video.failures import FailureLog

MODEL_FOLDER = "model"


class WindowFailures(Callback):
    """Counts the windows that are seen, and writes down the videos that cannot be read.

    Args:
        failures: Of this part of the data.
    """

    def __init__(self, failures: FailureLog) -> None:
        self._failures = failures

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._record(batch)

    @override
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._record(batch)

    def _record(self, batch: Mapping[str, Any]) -> None:
        failures = batch["failures"]
        # Windows that were read, and those that were not: the share is of all.
        self._failures.record(len(batch["frames"]) + len(failures), failures)


def train_mcvd(config: TrainBaselineConfig) -> None:
    """Train on the videos of the corpora, and write the moving average and its scores.

    Raises:
        ValueError: A file is missing or damaged, no video can be learnt from, the training
            diverged, another process writes to ``run_dir``, or it holds a run of other settings.
        UnreadableVideosError: Too many videos cannot be read, or are shorter than a window.
    """
    folder = Path(config.run_dir)
    settings = config.mcvd
    with sole_writer(folder, "train_baseline"):
        check_settings(folder, config)
        device = str(torch_device(config.device))
        training, validation = (
            _windows(settings, corpora)
            for corpora in (settings.data.train, settings.data.validation)
        )
        loader = sample_loader(config, collate_windows)
        save_settings(folder, config)
        # The weights at the start; each step seeds its own numbers, see StepSeed.
        torch.manual_seed(config.seed)
        module = MCVDModule(
            settings.model,
            learning_rate=settings.learning_rate,
            warm_up_steps=settings.warm_up_steps,
            average_decay=settings.average_decay,
        )
        size = sum(parameter.numel() for parameter in module.model.parameters())
        print(f"mcvd: {size:,} parameters, {len(training):,} windows", flush=True)
        learnt = fit_samples(
            module,
            loader(training, NumpyOrder(training, config.seed)),
            folder / "checkpoints",
            num_epochs=settings.num_epochs,
            device=device,
            seed=config.seed,
            gradient_clip_norm=settings.gradient_clip_norm,
            callbacks=[WindowFailures(failure_log(config, len(training)))],
        )
        save_folder(
            # Frames are sampled from the moving average, as in the official code.
            module.average,
            folder / MODEL_FOLDER,
            name=settings.name,
            trained_on=settings.data.trained_on,
        )
        scores: dict[str, Any] = {
            "num_parameters": size,
            "num_windows": len(training),
            **learnt,
            "held_out": {},
        }
        if len(validation):
            # A count of its own: training has seen its windows once an epoch.
            failures = WindowFailures(failure_log(config, len(validation)))
            metrics = held_out_metrics(
                module, loader(validation), device=device, callbacks=[failures]
            )
            scores["held_out"] = {"num_windows": len(validation), **metrics}
            if "loss" in metrics:  # else no window could be read
                print(f"held out: loss {metrics['loss']:.4f}", flush=True)
        save_scores(folder, scores)


def _windows(settings: McvdTrainingConfig, corpora: list[CorpusConfig]) -> FrameWindows:
    """Windows of the videos of some corpora."""
    examples = open_corpora(corpora, settings.data.max_malformed_fraction)
    # Corpora have several rows a video; its windows are learnt once.
    media = list(dict.fromkeys(example.media for example in examples))
    return FrameWindows(media, settings.model, windows_per_video=settings.windows_per_video)
