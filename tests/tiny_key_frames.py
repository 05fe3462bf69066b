"""Tiny parts of SeViLA re-composed: reasoners of its architecture, and videos of patches."""

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from tiny_experiment import PERCEIVER

from vidreason.config import merge_config
from vidreason.fusion.config import FusionConfig
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualTokens
from vidreason.reasoning.reasoner_config import LanguageModelConfig, LoraSettings

WIDTH = 24
NUM_CELLS = 2
NUM_QUERIES = 8


def frames_of(contents: Sequence[int]) -> VisualTokens:
    """One clip token, then the patches of a frame each second; equal numbers are equal frames."""
    patches = [
        torch.randn(NUM_CELLS, WIDTH, generator=torch.Generator().manual_seed(content))
        for content in contents
    ]
    count = NUM_CELLS * len(contents)
    moments = torch.arange(len(contents)).float().repeat_interleave(NUM_CELLS)
    clip = torch.tensor([[0.0, float(len(contents))]])
    return VisualTokens(
        features=torch.cat([torch.zeros(1, WIDTH), *patches]),
        kinds=torch.tensor([CLIP_TOKEN] + [OBJECT_TOKEN] * count),
        spans=torch.cat([clip, moments[:, None].expand(-1, 2)]),
        boxes=torch.zeros(1 + count, 4),
        areas=torch.zeros(1 + count),
        track_ids=torch.tensor([-1, *list(range(NUM_CELLS)) * len(contents)]),
        masks=(None,) * (1 + count),
        duration_seconds=float(len(contents)),
    )


def tiny_sevila(
    language_model: str, folder: Path | None = None, seed: int = 0, kind: str = "key_frame_qformer"
) -> VideoReasoner:
    """A localizer or an answerer; its folder is of the tiny experiment's perceiver."""
    config = ReasonerConfig(
        fusion=FusionConfig(
            kind=kind,  # type: ignore[arg-type]
            num_queries=NUM_QUERIES,
            width=16,
            num_layers=1,
            num_heads=2,
        ),
        language_model=LanguageModelConfig(name_or_path=language_model, dtype="float32"),
        lora=LoraSettings(rank=4, alpha=8),
    )
    perceiver = None
    if folder is not None:
        path = folder.with_suffix(".perceiver.yaml")
        path.write_text(yaml.safe_dump(PERCEIVER))
        perceiver = merge_config(PerceiverConfig, [str(path)])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reasoner = build_reasoner(config, visual_dim=WIDTH, perceiver=perceiver)
        with torch.no_grad():
            # Weights by which pictures change what is said: random models hardly look at them.
            reasoner.fusion.output_projection.weight.mul_(30)
    if folder is not None:
        reasoner.save_pretrained(folder)
    return reasoner.eval()
