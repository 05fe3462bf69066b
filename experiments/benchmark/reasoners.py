"""The reasoner that is measured: a named size with random weights, or any model's folder."""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import LlamaConfig

from experiments.gpu_check.random_parts import random_language_model
from vidreason.fusion.config import FusionConfig
from vidreason.fusion.fusion_core import build_fusion
from vidreason.microworld import parts
from vidreason.model import VideoReasoner, build_reasoner
from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import (
    add_lora,
    causal_lm,
    load_tokenizer,
    word_embedding_size,
)
from vidreason.reasoning.reasoner_config import LanguageModelConfig, LoraSettings, ReasonerConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Tokenizer of the microworld's language model; models of random weights speak its language."""
_VISUAL_DIM = video_encoder_sizes(VideoEncoderConfig()).width


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A language model with a fusion core that suits its size."""

    llama: dict[str, Any] | None
    """Sizes of a Llama, whose weights are random; None for the microworld's own folder."""
    fusion: dict[str, Any] = field(default_factory=dict)
    """Sizes of the fusion core; the paper's where they are left out."""
    visual_dim: int = _VISUAL_DIM


PRESETS = {
    # 46.4 million parameters, 16.4 million of them word embeddings.
    "llama-46m": Preset(
        llama={
            "vocab_size": 32_000,
            "hidden_size": 512,
            "intermediate_size": 1_760,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "max_position_embeddings": 2_048,
            "tie_word_embeddings": True,
        },
        # 5% of the language model; the paper's is 1% of its own.
        fusion={"width": 256, "num_layers": 2, "num_heads": 4},
    ),
    # The sizes of meta-llama/Meta-Llama-3-8B-Instruct, beside the paper's fusion core.
    "llama-3-8b": Preset(
        llama={
            "vocab_size": 128_256,
            "hidden_size": 4_096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 8_192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
            "tie_word_embeddings": False,
        }
    ),
    # As experiments/configs/microworld.yaml has them.
    "microworld": Preset(
        llama=None,
        fusion={"width": 192, "num_layers": 3, "num_heads": 6},
        visual_dim=64,
    ),
}


def device_of(arguments: argparse.Namespace) -> torch.device:
    """The device that is measured.

    Raises:
        ValueError: ``--gpu`` without a CUDA device.
    """
    if not arguments.gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            "--gpu needs a CUDA device, and PyTorch finds none here (nvidia-smi, "
            "CUDA_VISIBLE_DEVICES); leave --gpu out to measure CPU time"
        )
    return torch.device("cuda", 0)


def dtype_of(arguments: argparse.Namespace) -> torch.dtype:
    """The number type of the frozen weights, and of what is computed with them."""
    default = "bfloat16" if arguments.gpu else "float32"
    return cast(torch.dtype, getattr(torch, arguments.dtype or default))


def build(arguments: argparse.Namespace, *, lora: LoraSettings | None = None) -> VideoReasoner:
    """Build the reasoner that the options name, on the device that is measured.

    Raises:
        ValueError: There is no such device or model, or it does not go with the other options.
    """
    device = device_of(arguments)
    preset = PRESETS.get(arguments.language_model, Preset(llama=None))
    dtype: Any = str(dtype_of(arguments)).removeprefix("torch.")
    quantised = arguments.quantization != "none"
    if arguments.random_weights and quantised and preset.llama is None:
        raise ValueError(
            f"--quantization {arguments.quantization} reads weights from files, and "
            "--random-weights does not: leave it out, or choose --language-model "
            + " or ".join(name for name, one in PRESETS.items() if one.llama is not None)
        )
    # Whatever the language model, the fusion core's weights are drawn.
    torch.manual_seed(arguments.seed)
    # Needed until the model is loaded: it holds sizes and tokenizer of the Llamas.
    with tempfile.TemporaryDirectory() as folder:
        name = arguments.language_model
        if name == "microworld":
            name = str(parts.LANGUAGE_MODEL_FOLDER)
        elif preset.llama is not None:
            write_structure(Path(folder), preset.llama)
            name = folder
        config = ReasonerConfig(
            fusion=FusionConfig(num_queries=arguments.num_queries, **preset.fusion),
            language_model=LanguageModelConfig(
                name_or_path=name, dtype=dtype, quantization=arguments.quantization
            ),
            lora=lora,
        )
        if preset.llama is None and not arguments.random_weights:
            return build_reasoner(config, preset.visual_dim, device)
        if quantised:
            # Weights are quantised while they are read from a file, so random ones go through one.
            plain = replace(config.language_model, quantization="none")
            random_language_model(plain, device).save_pretrained(folder)
            return build_reasoner(config, preset.visual_dim, device)
        return _random_reasoner(config, preset.visual_dim, device)


def write_structure(folder: Path, sizes: dict[str, Any]) -> None:
    """Write a Llama's ``config.json``, with the microworld's tokenizer, to ``folder``."""
    tokens = json.loads((parts.LANGUAGE_MODEL_FOLDER / "config.json").read_text())
    # Those of the tokenizer that is copied beside it: a Llama's own ids would be other tokens.
    ids = {name: tokens[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaConfig(**sizes, **ids, architectures=["LlamaForCausalLM"]).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(parts.LANGUAGE_MODEL_FOLDER / name, folder)


def _random_reasoner(
    config: ReasonerConfig, visual_dim: int, device: torch.device
) -> VideoReasoner:
    model = random_language_model(config.language_model, device)
    fusion = build_fusion(config.fusion, visual_dim, *word_embedding_size(model)).to(device)
    adapted = model if config.lora is None else add_lora(model, config.lora)
    tokenizer = load_tokenizer(config.language_model)
    return VideoReasoner(config, visual_dim, fusion, adapted, tokenizer)


def describe(arguments: argparse.Namespace, reasoner: VideoReasoner) -> dict[str, Any]:
    """Describe the measured model for the report."""
    model = causal_lm(reasoner.language_model)
    words = cast(nn.Embedding, model.get_input_embeddings())
    return {
        "language_model": arguments.language_model,
        "class": type(model).__name__,
        # The Llamas of the list are random without being told.
        "random_weights": arguments.random_weights
        or getattr(PRESETS.get(arguments.language_model), "llama", None) is not None,
        "parameters": sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name),
        "word_embeddings": words.num_embeddings * words.embedding_dim,
        "fusion_parameters": sum(p.numel() for p in reasoner.fusion.parameters()),
        "attention": model.config._attn_implementation,
        "dtype": str(dtype_of(arguments)).removeprefix("torch."),
        "quantization": arguments.quantization,
    }


def check_equal(what: str, difference: float, tolerance: float, dtype: torch.dtype) -> None:
    """Make sure that ways of computing one thing agree in float32; 16 bits round coarsely.

    Raises:
        ValueError: They do not.
    """
    if dtype == torch.float32 and not difference <= tolerance:
        raise ValueError(
            f"the {what} differ by {difference:.2e}, and at most {tolerance:.0e} is rounding: the "
            "ways that are compared do not compute the same, so their times say nothing"
        )
