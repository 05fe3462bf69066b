"""An attentive probe of next events, on latents of a frozen V-JEPA 2 that are computed once."""

import math
from pathlib import Path
from typing import Any

import torch

from data_modules.corpus_index import open_corpora
from data_modules.epoch_loader import torch_order
from data_modules.next_events import (
    EVENT_HEAD,
    LatentFiles,
    NextEventSamples,
    collate_samples,
    event_head,
    next_event_samples,
)
from experiments.train_baseline.config import TrainBaselineConfig
from experiments.train_baseline.run_folder import (
    check_settings,
    failure_log,
    save_scores,
    save_settings,
)
from experiments.train_baseline.sample_training import fit_samples, held_out_metrics, sample_loader
from experiments.train_baseline.vjepa2_config import VJepa2ProbeConfig
from experiments.writer_lock import sole_writer
from vidreason.baselines.vjepa2.config import ProbeSizes
from vidreason.baselines.vjepa2.future_latents import load_future_latents
from vidreason.baselines.vjepa2.probe_files import ProbeCard, ProbeHead, build_probe, save_probe
from vidreason.baselines.vjepa2.probe_training import UNSEEN, ProbeTraining
from vidreason.devices import torch_device
from vidreason.pretrained.frozen_parts import content_hash

PROBE_FOLDER, LATENT_FOLDER = "probe", "latents"


def train_vjepa2_probe(config: TrainBaselineConfig) -> None:
    """Compute the latents, train the probe, and write it and its scores.

    Raises:
        ValueError: A file is missing or damaged, the corpora have no next events, another process
            writes to ``run_dir``, or it holds a run of other settings.
        UnreadableVideosError: Too many videos cannot be read.
    """
    folder = Path(config.run_dir)
    settings = config.vjepa2
    with sole_writer(folder, "train_baseline"):
        check_settings(folder, config)
        device = torch_device(config.device)
        # By content: it names latents on disk, and the encoder in the probe's folder.
        encoder_hash = _encoder_hash(settings)
        # All latents, also those of validation: from here on no video is read.
        head, width, train, validation = _samples(config, device, encoder_hash)
        card = ProbeCard(
            sizes=ProbeSizes(
                width=width, num_heads=settings.num_heads, num_blocks=settings.num_blocks
            ),
            heads=[head],
            look_ahead=settings.look_ahead,
            encoder=encoder_hash,
            trained_on=list(settings.data.trained_on),
        )
        save_settings(folder, config)
        # The weights at the start; each step seeds its own numbers, see StepSeed.
        torch.manual_seed(config.seed)
        probe = build_probe(card)
        size = sum(parameter.numel() for parameter in probe.parameters())
        print(
            f"vjepa2: {len(head.labels)} events, {size:,} parameters, {len(train):,} samples",
            flush=True,
        )
        steps = settings.num_epochs * math.ceil(len(train) / settings.batch_size)
        module = ProbeTraining(probe, settings.optimizer, steps)
        loader = sample_loader(config, collate_samples)
        learnt = fit_samples(
            module,
            loader(train, torch_order(train, config.seed)),
            folder / "checkpoints",
            num_epochs=settings.num_epochs,
            device=str(device),
            seed=config.seed,
        )
        save_probe(probe, card, folder / PROBE_FOLDER)
        scores: dict[str, Any] = {
            "num_parameters": size,
            "num_samples": len(train),
            "num_steps": steps,
            **learnt,
            "held_out": {},
        }
        if len(validation):
            metrics = held_out_metrics(module, loader(validation), device=str(device))
            scores["held_out"] = _held_out(metrics, validation, head)
            print(_held_out_text(scores["held_out"]), flush=True)
        save_scores(folder, scores)


def _encoder_hash(settings: VJepa2ProbeConfig) -> str:
    try:
        return content_hash(settings.encoder, settings.revision)
    except ValueError as error:
        raise ValueError(f"vjepa2.encoder: {error}") from error


def _samples(
    config: TrainBaselineConfig, device: torch.device, encoder_hash: str
) -> tuple[ProbeHead, int, NextEventSamples, NextEventSamples]:
    """The head, the width of the latents, and samples of training and validation.

    The encoder is loaded here alone: it is in memory no more when the probe is trained.
    """
    settings = config.vjepa2
    share = settings.data.max_malformed_fraction
    train = open_corpora(settings.data.train, share)
    validation = open_corpora(settings.data.validation, share)
    # Classes are the events of training; others that validation has are unseen.
    head = event_head(train)
    latents = load_future_latents(
        settings.encoder, settings.look_ahead, device=device, revision=settings.revision
    )
    files = LatentFiles(Path(config.run_dir) / LATENT_FOLDER, latents, encoder_hash)
    train_samples, validation_samples = (
        next_event_samples(
            examples,
            head,
            files.file_of,
            failure_log(config, len(examples)),
        )
        for examples in (train, validation)
    )
    if not len(train_samples):
        raise ValueError("vjepa2.data.train: no video with a next event can be read")
    return head, latents.width, train_samples, validation_samples


def _held_out(
    metrics: dict[str, float], samples: NextEventSamples, head: ProbeHead
) -> dict[str, Any]:
    """The scores on held-out samples, beside that of the commonest event of training."""
    # As training counts them, so that nothing of validation is known.
    commonest = head.counts.index(max(head.counts))
    return {
        "num_samples": len(samples),
        "num_unseen": samples.labels.count(UNSEEN),
        "loss": metrics["loss"],
        "accuracy": metrics[f"accuracy_{EVENT_HEAD}"],
        "majority_accuracy": samples.labels.count(commonest) / len(samples),
    }


def _held_out_text(scores: dict[str, Any]) -> str:
    return (
        f"held out: {scores['accuracy']:.1%} of {scores['num_samples']} next events right, the "
        f"commonest event alone {scores['majority_accuracy']:.1%}; {scores['num_unseen']} were not "
        "learnt"
    )
