"""A tiny untrained reasoner on the microworld's parts, in the form in which a trained one ships."""

from pathlib import Path

import torch

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.microworld import parts
from vidreason.model import Provenance, ReasonerConfig, build_reasoner
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings


def write_tiny_reasoner(folder: Path) -> None:
    """Write the folder."""
    perceiver = parts.perceiver_config()
    perceiver.video_encoder.weights = str(parts.ENCODER_WEIGHTS)
    perceiver.segmenter.weights = str(parts.SEGMENTER_WEIGHTS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reasoner = build_reasoner(
            ReasonerConfig(
                fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
                language_model=LanguageModelConfig(
                    name_or_path=str(parts.LANGUAGE_MODEL_FOLDER), dtype="float32"
                ),
                lora=LoraSettings(rank=2, alpha=4),
            ),
            perceiver.video_encoder.width,
            perceiver=perceiver,
        )
    reasoner.decoding.max_new_tokens = 4
    provenance = Provenance(tables="| a | b |\n", licence="CC0-1.0")
    reasoner.save_pretrained(folder, provenance=provenance, dtype=torch.bfloat16)
