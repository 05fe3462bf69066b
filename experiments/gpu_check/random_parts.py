"""Models of real sizes with random weights, made on the device: their time and memory are real."""

from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from experiments.experiment_config import ExperimentConfig
from vidreason.fusion.fusion_core import build_fusion
from vidreason.model import VideoReasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import (
    add_lora,
    load_language_model,
    load_tokenizer,
    word_embedding_size,
)
from vidreason.reasoning.reasoner_config import LanguageModelConfig


def random_language_model(config: LanguageModelConfig, device: torch.device) -> PreTrainedModel:
    """A frozen language model as ``load_language_model`` gives it, from its ``config.json`` alone.

    Weights are drawn on ``device``: on the CPU 8 billion of them would take minutes.
    """
    # Modules and dtype without any value: nothing is read but config.json.
    structure = load_language_model(config, "meta")
    auto: Any = AutoModelForCausalLM  # its methods are typed for a part of their answers only
    with torch.device(device):
        model = auto.from_config(
            structure.config,
            dtype=structure.dtype,
            attn_implementation=structure.config._attn_implementation,
        )
    return cast(PreTrainedModel, model.requires_grad_(False).eval())


def random_reasoner(config: ExperimentConfig, device: torch.device) -> VideoReasoner:
    """The reasoner of ``config`` with random weights; the folder of its language model has none."""
    settings = config.reasoner
    model = random_language_model(settings.language_model, device)
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    fusion = build_fusion(settings.fusion, width, *word_embedding_size(model)).to(device)
    adapted = model if settings.lora is None else add_lora(model, settings.lora)
    tokenizer = load_tokenizer(settings.language_model)
    return VideoReasoner(settings, width, fusion, adapted, tokenizer, config.perceiver)
