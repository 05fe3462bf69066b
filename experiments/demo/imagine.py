"""The demo's imagined videos: before the stages and after them."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save
from tqdm import tqdm  # type: ignore[import-untyped]

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import token_source
from vidreason.atomic_file import atomic_file
from vidreason.export import reasoner_of_checkpoint
from vidreason.fusion.fusion_core import FusionCore, build_fusion
from vidreason.microworld.corpora import rollout_of_video
from vidreason.microworld.fusion_pretraining import pretrain_fusion_core
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.imagined_tuning import tune_reasoner
from vidreason.microworld.pretraining import BATCHES_PER_STEP
from vidreason.microworld.scenes import rollout_of
from vidreason.microworld.training_processes import processes_of, training_processes
from vidreason.model import VideoReasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import load_language_model, word_embedding_size

_NUM_PERCEIVED_VIDEOS = 2000
"""Training videos whose tokens the imagined ones are put together from, at most."""
_NUM_STORIES = 8000
_STORIES_PER_VIDEO = 8
"""Enough stories for imagined videos. Where there are fewer training videos, others
are drawn, up to these numbers: that takes 9 ms each, but 0.5 s to render and to perceive a video
(measured, AMD EPYC)."""
_PROGRESS = "progress.pt"

_Report = tuple[int, dict[str, float]]
"""Steps and losses."""


class Imagining:
    """Material of imagined videos: stories of the training split, and tokens of its videos.

    Args:
        experiment: The configuration that both stages share.
        world_seed: The seed that the training videos were drawn with.
    """

    def __init__(self, experiment: ExperimentConfig, world_seed: int) -> None:
        self.experiment = experiment
        self.world_seed = world_seed
        self.source = token_source(experiment)
        captions = [each for each in experiment.data.train if each.reader == "webvid"]
        examples = list(open_corpora(captions, experiment.data.max_malformed_fraction))
        self.stories = [rollout_of_video(example.video_id, world_seed) for example in examples]
        few = islice(zip(examples, self.stories, strict=True), _NUM_PERCEIVED_VIDEOS)
        self.perceived = [(self.source(example.media, None, None), story) for example, story in few]
        self.imagination = Imagination(self.perceived)
        # Stories that would follow those of the videos in their split.
        enough = min(_NUM_STORIES, _STORIES_PER_VIDEO * len(examples))
        for index in range(len(examples), enough):
            self.stories.append(rollout_of("train", index, world_seed))


def write_fusion_core(imagining: Imagining, steps: int, path: Path) -> None:
    """Train a new fusion core on imagined videos; write it as ``fusion.warm_start`` reads it.

    An interrupted call leaves its state beside ``path``, and the next one goes on from there.

    Args:
        imagining: What the videos are made of; its configuration has a Q-Former.
        steps: Optimizer steps.
        path: A safetensors file.
    """
    experiment = imagining.experiment
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = path.parent / _PROGRESS
    fusion = _new_fusion_core(experiment)
    arguments = experiment, imagining.world_seed, steps, progress
    with training_processes(_processes(experiment), _pretrain_too, *arguments):
        _show(_pretraining(fusion, imagining, steps, progress), steps, "imagine")
    with atomic_file(path) as file:
        file.write(save(fusion.state_dict()))
    progress.unlink()


def _new_fusion_core(experiment: ExperimentConfig) -> FusionCore:
    settings = experiment.reasoner
    torch.manual_seed(experiment.seed)
    sizes = word_embedding_size(load_language_model(settings.language_model))
    width = video_encoder_sizes(experiment.perceiver.video_encoder).width
    fusion = build_fusion(settings.fusion, width, *sizes)
    assert isinstance(fusion, FusionCore)
    return fusion


def _pretraining(
    fusion: FusionCore, imagining: Imagining, steps: int, progress: Path
) -> Iterator[_Report]:
    return pretrain_fusion_core(
        fusion,
        imagining.imagination,
        imagining.stories,
        steps=steps,
        progress=progress,
        seed=imagining.experiment.seed,
    )


def _pretrain_too(
    experiment: ExperimentConfig, world_seed: int, steps: int, progress: Path
) -> None:
    """Pre-train the same fusion core in another process."""
    fusion, imagining = _new_fusion_core(experiment), Imagining(experiment, world_seed)
    for _ in _pretraining(fusion, imagining, steps, progress):
        pass


def write_tuned_reasoner(
    run: Path, imagining: Imagining, steps: int, seed: int, folder: Path
) -> None:
    """Let stage 2's reasoner go on learning from imagined videos; write its folder.

    An interrupted call leaves its state beside ``folder``, and the next one goes on from there.

    Args:
        run: Stage 2's run folder.
        imagining: What the videos are made of.
        steps: Optimizer steps.
        seed: Of the videos.
        folder: Where to; of the form ``trained``.
    """
    trained, provenance = reasoner_of_checkpoint(run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress = folder.parent / _PROGRESS
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / folder.name
        trained.save_pretrained(start)
        reasoner = VideoReasoner.from_pretrained(start)
        arguments = start, imagining.experiment, imagining.world_seed, steps, seed, progress
        with training_processes(_processes(imagining.experiment), _tune_too, *arguments):
            _show(_tuning(reasoner, imagining, steps, seed, progress), steps, "tune")
    checkpoint = f"{provenance.checkpoint}, and {steps} steps on imagined videos"
    reasoner.save_pretrained(folder, provenance=replace(provenance, checkpoint=checkpoint))
    progress.unlink()


def _tuning(
    reasoner: VideoReasoner, imagining: Imagining, steps: int, seed: int, progress: Path
) -> Iterator[_Report]:
    return tune_reasoner(
        *(reasoner, imagining.imagination, imagining.stories, imagining.perceived),
        steps=steps,
        progress=progress,
        seed=seed,
    )


def _tune_too(
    start: Path,
    experiment: ExperimentConfig,
    world_seed: int,
    steps: int,
    seed: int,
    progress: Path,
) -> None:
    """Tune the same reasoner in another process."""
    reasoner, imagining = VideoReasoner.from_pretrained(start), Imagining(experiment, world_seed)
    for _ in _tuning(reasoner, imagining, steps, seed, progress):
        pass


def _processes(experiment: ExperimentConfig) -> int:
    return processes_of(BATCHES_PER_STEP, experiment.perceive.num_workers)


def _show(reports: Iterator[_Report], steps: int, name: str) -> None:
    """Train to the end, with a bar."""
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for step, losses in reports:
            bar.update(step - bar.n)
            bar.set_postfix({name: f"{value:.2f}" for name, value in losses.items()})
