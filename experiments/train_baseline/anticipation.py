"""Action anticipation: a network on segments, and a recogniser that finds these in videos."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.epoch_loader import epoch_loader, torch_order
from data_modules.event_segments import BEGINNING, event_recordings
from data_modules.files import Files
from data_modules.segment_labels import read_segment_labels
from data_modules.skipped_rows import SkippedRows
from experiments.train_baseline.anticipation_config import AnticipationTrainingConfig
from experiments.train_baseline.anticipation_scores import held_out_scores, scores_text
from experiments.train_baseline.config import TrainBaselineConfig
from experiments.train_baseline.recogniser import train_recogniser
from experiments.train_baseline.run_folder import check_settings, save_scores, save_settings
from experiments.train_baseline.sample_training import fit_samples
from experiments.writer_lock import sole_writer
from vidreason.baselines.anticipation.anticipator import Anticipator, build_network
from vidreason.baselines.anticipation.folder import (
    NetworkFolder,
    load_anticipator,
    save_network,
)
from vidreason.baselines.anticipation.module import CnnModule, RnnModule
from vidreason.baselines.anticipation.samples import cnn_samples, rnn_samples
from vidreason.baselines.anticipation.segments import Recording, vocabulary
from vidreason.devices import torch_device

MODEL_FOLDER, RECOGNISER_FOLDER = "model", "recogniser"


def train_anticipation(config: TrainBaselineConfig) -> None:
    """Train the network, then the recogniser, and score what was held out.

    Raises:
        ValueError: A file is missing or damaged, nothing can be learnt from the recordings, another
            process writes to ``run_dir``, or it holds a run of other settings.
    """
    folder = Path(config.run_dir)
    settings = config.anticipation
    with sole_writer(folder, "train_baseline"):
        check_settings(folder, config)
        # What is held out as well: a missing file is named before the training, not after it.
        train, validation = read_recordings(settings)
        print(f"recordings: {len(train)} to learn from, {len(validation)} held out", flush=True)
        device = torch_device(config.device)
        # From here on this folder is of these settings alone.
        save_settings(folder, config)
        anticipator, learnt = _train_network(config, train, device)
        scores = {**held_out_scores(anticipator, validation), **learnt}
        save_scores(folder, scores)
        print(scores_text(scores), flush=True)
        if settings.recogniser is not None:
            print(
                train_recogniser(
                    settings,
                    settings.recogniser,
                    train,
                    validation,
                    folder / RECOGNISER_FOLDER,
                    device=device,
                    seed=config.seed,
                ),
                flush=True,
            )


def read_recordings(
    config: AnticipationTrainingConfig,
) -> tuple[list[Recording], list[Recording]]:
    """Read what is learnt and what is held out.

    What is left out is counted and said in a line for each of the two.

    Raises:
        ValueError: A file is missing or wrong as a whole, too many are malformed, or nothing of
            the training part can be used.
    """
    if config.events:
        parts = [_events(config.events, config), _events(config.validation_events, config)]
    else:
        bundles = (config.label_files.train, config.label_files.validation)
        parts = [_label_files(bundle, config) for bundle in bundles]
    if not parts[0]:
        raise ValueError("no recording to learn from was read; see what was left out above")
    return parts[0], parts[1]


def _label_files(bundle: str, config: AnticipationTrainingConfig) -> list[Recording]:
    if not bundle:
        return []
    files = Files(config.label_files.root)
    return _counted(
        bundle, config, lambda skipped: list(read_segment_labels(files, bundle, skipped))
    )


def _events(corpora: Sequence[CorpusConfig], config: AnticipationTrainingConfig) -> list[Recording]:
    examples = open_corpora(corpora, config.max_malformed_fraction)
    return _counted("events", config, lambda skipped: list(event_recordings(examples, skipped)))


def _counted(
    name: str,
    config: AnticipationTrainingConfig,
    read: Callable[[SkippedRows], list[Recording]],
) -> list[Recording]:
    skipped = SkippedRows(max_malformed_fraction=config.max_malformed_fraction)
    recordings = read(skipped)
    # A share of the rows is known when all of them are read.
    skipped.check_malformed(config.max_malformed_fraction)
    if skipped.num_skipped:
        print(f"{name}: left out {skipped.num_skipped}: {skipped.summary()}", flush=True)
    return recordings


def _train_network(
    config: TrainBaselineConfig,
    train: Sequence[Recording],
    device: torch.device,
) -> tuple[Anticipator, dict[str, Any]]:
    """The trained network, as its folder holds it, and the scores of its training."""
    settings = config.anticipation
    model = settings.model
    labels = vocabulary(train)  # of training alone: what else occurs is not known
    index = {label: number for number, label in enumerate(labels)}
    # The weights at the start; each step seeds its own numbers, see StepSeed.
    torch.manual_seed(config.seed)
    network = build_network(model, len(labels))
    module: RnnModule | CnnModule
    if model.network == "cnn":
        samples: Sequence[torch.Tensor] = cnn_samples(train, index, model)
        module = CnnModule(network, settings.learning_rate)
    else:
        samples = rnn_samples(train, index, model, settings.num_cuts)
        module = RnnModule(network, settings.learning_rate)
    size = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{model.network}: {len(labels)} labels, {size:,} parameters, {len(samples[0]):,} samples",
        flush=True,
    )
    folder = Path(config.run_dir)
    rows = TensorDataset(*samples)
    order = torch_order(rows, config.seed)
    learnt = fit_samples(
        module,
        epoch_loader(rows, order, batch_size=settings.batch_size, seed=config.seed),
        folder / "checkpoints" / MODEL_FOLDER,
        num_epochs=settings.num_epochs,
        device=str(device),
        seed=config.seed,
    )
    # Labels that no network may predict as an event.
    silent = (BEGINNING,) if settings.events else tuple(settings.label_files.silent)
    description = NetworkFolder(
        config=model, labels=labels, silent=silent, trained_on=settings.trained_on
    )
    save_network(folder / MODEL_FOLDER, description, network)
    # Read back: what is scored is what a benchmark will load.
    return load_anticipator(folder / MODEL_FOLDER, device), learnt
