"""Reasoners with frozen parts that lie in files: what a folder refers to."""

import copy
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.microworld import parts
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings

CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM, False),
    "llama tied": (LlamaConfig, LlamaForCausalLM, True),
    "qwen2 tied": (Qwen2Config, Qwen2ForCausalLM, True),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, False),
}
"""Classes, and whether input and output embeddings are one."""


@pytest.fixture(scope="session")
def language_models(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> dict[str, str]:
    """Folders of tiny random language models by the names of ``CLASSES``; only to be read."""
    folders = {}
    for name, (config_class, model_class, tied) in CLASSES.items():
        config = config_class(
            vocab_size=len(tiny_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=1024,
            initializer_range=0.2,
            eos_token_id=tiny_tokenizer.eos_token_id,
            tie_word_embeddings=tied,
        )
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model_class(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        folders[name] = str(folder)
    return folders


@pytest.fixture
def perceiver(tmp_path: Path) -> PerceiverConfig:
    """The microworld's perceiver, with copies of its weights."""
    config = parts.perceiver_config()
    folder = tmp_path / "weights"
    folder.mkdir()
    for weights in (parts.ENCODER_WEIGHTS, parts.SEGMENTER_WEIGHTS):
        shutil.copy(weights, folder)
    config.video_encoder.weights = str(folder / parts.ENCODER_WEIGHTS.name)
    config.segmenter.weights = str(folder / parts.SEGMENTER_WEIGHTS.name)
    return config


@pytest.fixture(scope="session")
def build(language_models: dict[str, str]) -> Callable[..., VideoReasoner]:
    """``build(kind, dtype, lora, folder)``: a new reasoner of the microworld's perceiver."""

    def build(kind: str, dtype: str, lora: bool, folder: str | None = None) -> VideoReasoner:
        config = ReasonerConfig(
            fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
            language_model=LanguageModelConfig(
                name_or_path=folder or language_models[kind], dtype=dtype
            ),
            lora=LoraSettings(rank=4, alpha=8) if lora else None,
        )
        with torch.random.fork_rng():
            torch.manual_seed(1)
            reasoner = build_reasoner(config, visual_dim=24, perceiver=parts.perceiver_config())
            with torch.no_grad():
                for name, parameter in reasoner.named_parameters():
                    if "lora_B" in name:  # new ones are zero
                        parameter.normal_(std=0.1)
        return reasoner.eval()

    return build


@pytest.fixture(scope="session")
def built(build: Callable[..., VideoReasoner]) -> Callable[..., VideoReasoner]:
    """``built(kind, dtype, lora)``: as ``build``, once of each; only to be copied."""
    return cache(build)


@pytest.fixture
def make_reasoner(
    build: Callable[..., VideoReasoner],
    built: Callable[..., VideoReasoner],
    perceiver: PerceiverConfig,
) -> Callable[..., VideoReasoner]:
    """``make(kind="llama", dtype="float32", lora=True, folder=None)``: as if it were trained."""

    def make(
        kind: str = "llama", dtype: str = "float32", lora: bool = True, folder: str | None = None
    ) -> VideoReasoner:
        if folder is None:
            reasoner = copy.deepcopy(built(kind, dtype, lora))
        else:
            reasoner = build(kind, dtype, lora, folder)
        reasoner.perceiver = perceiver
        return reasoner

    return make


@pytest.fixture(scope="session")
def folders(
    built: Callable[..., VideoReasoner], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A saved folder of each form, only to be copied."""
    made = {}
    for form in ("trained", "merged"):
        made[form] = tmp_path_factory.mktemp(form) / "reasoner"
        copy.deepcopy(built("llama", "float32", True)).save_pretrained(made[form], form)
    return made
