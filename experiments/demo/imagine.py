"""The demo's fusion core learns from imagined videos before it sees perceived ones."""

from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save
from tqdm import tqdm  # type: ignore[import-untyped]

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import token_source
from vidreason.atomic_file import atomic_file
from vidreason.fusion.fusion_core import FusionCore, build_fusion
from vidreason.microworld.corpora import rollout_of_video
from vidreason.microworld.fusion_pretraining import pretrain_fusion_core
from vidreason.microworld.imagination import Imagination
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import load_language_model, word_embedding_size

_NUM_PERCEIVED_VIDEOS = 2000
"""Training videos whose tokens the imagined ones are put together from, at most."""
_PROGRESS = "progress.pt"


def write_fusion_core(stage1: ExperimentConfig, world_seed: int, steps: int, path: Path) -> None:
    """Train a new fusion core on imagined videos; write it as ``fusion.warm_start`` reads it.

    An interrupted call leaves its state beside ``path``, and the next one goes on from there.

    Args:
        stage1: The experiment whose fusion core it is, with captions as training corpus.
        world_seed: The seed that its videos were drawn with.
        steps: Optimizer steps.
        path: A safetensors file.
    """
    source = token_source(stage1)
    train = open_corpora(stage1.data.train, stage1.data.max_malformed_fraction)
    examples = list(train)
    stories = [rollout_of_video(example.video_id, world_seed) for example in examples]
    imagination = Imagination(
        (source(example.media, None, None), story)
        for example, story in islice(zip(examples, stories, strict=True), _NUM_PERCEIVED_VIDEOS)
    )
    settings = stage1.reasoner
    torch.manual_seed(stage1.seed)
    sizes = word_embedding_size(load_language_model(settings.language_model))
    width = video_encoder_sizes(stage1.perceiver.video_encoder).width
    fusion = build_fusion(settings.fusion, width, *sizes)
    assert isinstance(fusion, FusionCore)
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = path.parent / _PROGRESS
    with tqdm(total=steps, desc="imagine", unit="step") as bar:
        for step, losses, _ in pretrain_fusion_core(
            fusion, imagination, stories, steps=steps, progress=progress, seed=stage1.seed
        ):
            bar.update(step - bar.n)
            bar.set_postfix({name: f"{value:.2f}" for name, value in losses.items()})
    with atomic_file(path) as file:
        file.write(save(fusion.state_dict()))
    progress.unlink()
