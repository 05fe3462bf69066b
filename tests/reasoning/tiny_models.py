"""Reasoners around tiny random language models of any class of transformers."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 512,
}
"""Sizes for classes whose configurations have Llama's names."""
VOCABULARY = 400


def random_reasoner(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    kind: tuple[type[PreTrainedConfig], dict[str, Any]],
    *,
    num_queries: int = 4,
    lora: bool = False,
    **options: Any,
) -> VideoReasoner:
    """Build a reasoner whose language model is written to ``folder`` first.

    Args:
        folder: Of the language model.
        tokenizer: Its tokenizer.
        kind: The class of its configuration, and sizes.
        num_queries: Embeddings of a video.
        lora: Whether to add adapters, which are made to change something.
        **options: Of ``LanguageModelConfig``.
    """
    config_class, sizes = kind
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_class(vocab_size=VOCABULARY, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=num_queries, width=32, num_layers=1, num_heads=4),
        language_model=LanguageModelConfig(name_or_path=str(folder), dtype="float32", **options),
        lora=LoraSettings(rank=4, alpha=8) if lora else None,
    )
    reasoner = build_reasoner(config, visual_dim=24)
    for name, parameter in reasoner.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return reasoner
