"""Self-supervised pre-training of a small V-JEPA 2, or its control: the model as it is drawn."""

import math
from pathlib import Path
from typing import Any

import torch

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.epoch_loader import torch_order
from data_modules.unlabelled_clips import UnlabelledClips, index_videos
from experiments.train_baseline.config import TrainBaselineConfig
from experiments.train_baseline.run_folder import (
    check_settings,
    failure_log,
    save_scores,
    save_settings,
)
from experiments.train_baseline.sample_training import fit_samples, held_out_metrics, sample_loader
from experiments.writer_lock import sole_writer
from vidreason.baselines.vjepa2.pretraining import (
    LatentPrediction,
    build_model,
    clip_transform,
    save_model,
)
from vidreason.devices import torch_device

MODEL_FOLDER = "model"


def pretrain_vjepa2(config: TrainBaselineConfig) -> None:
    """Pre-train on the videos of the corpora, and write the model and its scores.

    Raises:
        ValueError: A file is missing or damaged, another process writes to ``run_dir``, or it holds
            a run of other settings.
        VideoReadError: A frame of a video that could be indexed cannot be decoded.
        UnreadableVideosError: Too many videos cannot be indexed.
    """
    folder = Path(config.run_dir)
    settings = config.vjepa2_pretraining
    with sole_writer(folder, "train_baseline"):
        check_settings(folder, config)
        device = str(torch_device(config.device))
        training = _clips(config, settings.data.train)
        validation = None
        if settings.data.validation:
            validation = _clips(config, settings.data.validation)
        loader = sample_loader(config)
        # The last batch of an epoch may have fewer clips.
        num_steps = settings.num_epochs * math.ceil(len(training) / settings.batch_size)
        save_settings(folder, config)
        # The same seed with num_epochs=0 writes the model that this training starts from.
        torch.manual_seed(config.seed)
        model = build_model(settings.model)
        size = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"vjepa2: {size:,} parameters, {len(training):,} clips, {num_steps:,} steps",
            flush=True,
        )
        module = LatentPrediction(model, settings.task, settings.optimizer, num_steps)
        learnt: dict[str, Any] = {"epoch_losses": [], "still_falls": None}
        if settings.num_epochs:
            learnt = fit_samples(
                module,
                loader(training, torch_order(training, config.seed)),
                folder / "checkpoints",
                num_epochs=settings.num_epochs,
                device=device,
                seed=config.seed,
            )
        # With the target encoder in the encoder's stead, which is the one that is used afterwards.
        save_model(module.pretrained_model().cpu(), folder / MODEL_FOLDER)
        scores: dict[str, Any] = {
            "num_parameters": size,
            "num_clips": len(training),
            "num_steps": num_steps,
            **learnt,
            "held_out": {},
        }
        if validation is not None:
            metrics = held_out_metrics(module, loader(validation), device=device)
            scores["held_out"] = {"num_clips": len(validation), **metrics}
            # Batches of a single clip have no deviation: of those alone nothing is said.
            collapsed = metrics.get("target_deviation", math.inf) < settings.task.collapse_deviation
            scores["collapsed"] = collapsed
            print(
                f"held out: loss {metrics['loss']:.4f}"
                + ("; its targets are nearly the same for all clips: it collapsed" * collapsed),
                flush=True,
            )
        save_scores(folder, scores)


def _clips(config: TrainBaselineConfig, corpora: list[CorpusConfig]) -> UnlabelledClips:
    """Clips of the videos of some corpora."""
    settings = config.vjepa2_pretraining
    examples = open_corpora(corpora, settings.data.max_malformed_fraction)
    # Corpora have several rows a video; its clips are learnt once.
    media = list(dict.fromkeys(example.media for example in examples))
    return UnlabelledClips(
        index_videos(media, failure_log(config, len(media))),
        clip_transform(settings.model),
        num_frames=settings.model.num_frames,
        frames_per_second=settings.frames_per_second,
        clips_per_video=settings.clips_per_video,
        seed=config.seed,
    )
