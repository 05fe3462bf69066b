"""Folders and checkpoints of BLIP-2's family at the size of the golden values, in real layouts."""

import json
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from baseline_weights import golden_state, golden_values, golden_weight
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    PreTrainedTokenizerFast,
)

from vidreason.baselines.frames import FrameReader, FrameRule, Frames
from vidreason.example import Example
from vidreason.video.reader import VideoReader

CLIP = Path(__file__).parents[2] / "vidreason" / "microworld" / "samples" / "hit.mp4"
VISION = {
    **{"hidden_size": 32, "intermediate_size": 139, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": 28, "patch_size": 14},
}
QUERIES = {
    **{"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "encoder_hidden_size": 32, "cross_attention_frequency": 2},
}
T5 = {
    **{"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    **{"pad_token_id": 0, "eos_token_id": 1},
}
"""Sizes of the golden values (HOW.md of their makers)."""

FRAME_KEYS = ("visual_encoder.", "ln_vision.", "Qformer.bert.", "query_tokens")
OPTIONS = ("the red ball", "the blue box", "nothing")


def example(prompt: str = "What hits the box?", options: tuple[str, ...] = ()) -> Example:
    """Return a question about the clip."""
    return Example(
        id=f"tiny:test:{prompt}",
        corpus="tiny",
        media=str(CLIP),
        video_id="hit",
        prompt=prompt,
        response="",
        options=options,
    )


def clip_frames(rule: FrameRule) -> Frames:
    """Return frames of the clip."""
    return FrameReader(VideoReader(timeout_seconds=None))(str(CLIP), None, None, rule)


def blip2_config(vocab_size: int) -> Blip2Config:
    """Return the sizes as a configuration of transformers."""
    return Blip2Config(
        vision_config=Blip2VisionConfig(**VISION).to_dict(),
        qformer_config=Blip2QFormerConfig(**QUERIES).to_dict(),
        text_config={"model_type": "t5", "vocab_size": vocab_size, **T5},
        num_query_tokens=32,
    )


def t5_weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return T5's golden weights, by its keys."""
    return {
        key: golden_weight(
            f"t5_model.{'shared.weight' if 'embed_tokens' in key else key}", tuple(shape)
        )
        for key, shape in shapes.items()
    }


def write_blip2(folder: Path, name: str = "videollama", vocab_size: int = 60) -> Path:
    """Let transformers write a BLIP-2 in shards, with the golden weights of its frames' parts.

    Args:
        folder: Where to.
        name: Which golden values' weights.
        vocab_size: Tokens of its T5.
    """
    model = Blip2ForConditionalGeneration(blip2_config(vocab_size))
    # transformers ties the two, and would write one of them.
    head: Any = model.language_model
    head.lm_head.weight = torch.nn.Parameter(head.lm_head.weight.detach().clone())
    shapes = {key: value.shape for key, value in head.state_dict().items()}
    head.load_state_dict(t5_weights(shapes))
    state = golden_state(golden_values(name)["keys"])
    model.vision_model.load_state_dict(_named_by_hand(state))
    prefix = "Qformer.bert."
    queries = {
        key.removeprefix(prefix)
        .replace(".self.", ".attention.")
        .replace("embeddings.LayerNorm", "layernorm"): value
        for key, value in state.items()
        if key.startswith(prefix) and not key.endswith(".position_ids")
    }
    model.qformer.load_state_dict(queries)
    model.query_tokens.data.copy_(state["query_tokens"])
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="60KB")
    if bars:
        transformers.utils.logging.enable_progress_bar()
    return folder


def _named_by_hand(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name a vision tower's official weights as transformers does, independently of the library."""
    named = {
        "embeddings.class_embedding": state["visual_encoder.cls_token"],
        "embeddings.position_embedding": state["visual_encoder.pos_embed"],
        "post_layernorm.weight": state["ln_vision.weight"],
        "post_layernorm.bias": state["ln_vision.bias"],
    }
    for kind in ("weight", "bias"):
        patches = f"visual_encoder.patch_embed.proj.{kind}"
        named[f"embeddings.patch_embedding.{kind}"] = state[patches]
        for layer in range(2):
            ours, theirs = f"encoder.layers.{layer}", f"visual_encoder.blocks.{layer}"
            for one, other in (
                ("layer_norm1", "norm1"),
                ("layer_norm2", "norm2"),
                ("self_attn.projection", "attn.proj"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ):
                named[f"{ours}.{one}.{kind}"] = state[f"{theirs}.{other}.{kind}"]
    for layer in range(2):
        attention = f"visual_encoder.blocks.{layer}.attn"
        query, value = state[f"{attention}.q_bias"], state[f"{attention}.v_bias"]
        joined = f"encoder.layers.{layer}.self_attn.qkv"
        named[f"{joined}.weight"] = state[f"{attention}.qkv.weight"]
        named[f"{joined}.bias"] = torch.cat([query, torch.zeros(32), value])
    return named


def official_state(name: str, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return the golden weights by their official keys, less those that begin with a prefix."""
    state = golden_state(golden_values(name)["keys"])
    state = {key: value for key, value in state.items() if not key.startswith(without)}
    buffers = [key for key in state if key.endswith(".position_ids")]
    return state | {key: torch.arange(512)[None] for key in buffers}


def write_checkpoint(path: Path, state: dict[str, Tensor]) -> Path:
    """Save weights as the official runner does, beside an optimizer's state."""
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-5}]}
    content = {"model": state, "optimizer": optimizer, "config": {"run": {"seed": 42}}}
    torch.save({**content, "scaler": None, "epoch": 3}, path)
    return path


def rewrite_shards(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Change tensors of a folder's weights, or take them out, and write them as one file."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(shard)
        shard.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    for key, tensor in changes.items():
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    save_file(tensors, folder / "model.safetensors")


def t5_tokenizer(pieces: dict[int, str] | None = None, size: int = 0) -> PreTrainedTokenizerFast:
    """Return a tokenizer like T5's: letters, and the words that SeViLA reads as one token.

    Args:
        pieces: Pieces with a fixed id.
        size: Least number of tokens.
    """
    words = ["\u2581Option", "\u2581yes", "\u2581Frame", "\u2581Question"]
    words += [f"\u2581{letter}" for letter in "ABCDE"]
    wanted = ["<pad>", "</s>", "<unk>", "\u2581", *string.printable.strip(), *words]
    fixed = pieces or {}
    free = iter(piece for piece in wanted if piece not in fixed.values())
    vocabulary: list[tuple[str, float]] = []
    while (piece := fixed.get(len(vocabulary)) or next(free, None)) or len(vocabulary) < size:
        name = piece or f"filler{len(vocabulary)}"
        vocabulary.append((name, -1.0 if len(name) > 1 and piece else -5.0))
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def write_llama_tokenizer(folder: Path, size: int = 0, number_of_marks: int = 835) -> Path:
    """Write a tokenizer like Llama's, with the pieces of ``###``, in the layout of version 4."""
    fixed = {"\u2581###": number_of_marks, "##": 2277, "#": 29937} if size else {}
    free = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    free += ["\u2581", *string.printable.strip(), "\u2581#", "##", "\u2581###"]
    free += [f"\u2581{letter}" for letter in "ABCD"]
    vocabulary = dict(fixed)
    names = [name for name in dict.fromkeys(free) if name not in fixed]
    fillers = (f"filler{number}" for number in range(size))
    for number in range(max(size, len(names))):
        if number not in fixed.values():
            name = names.pop(0) if names else next(fillers)
            vocabulary[name] = number
    blank = "\u2581"
    merges = [f"{blank} #", "# #", f"{blank}# ##", *(f"{blank} {letter}" for letter in "ABCD")]
    special = [
        {
            **{"id": number, "content": content, "single_word": False, "lstrip": False},
            **{"rstrip": False, "normalized": False, "special": True},
        }
        for number, content in enumerate(("<unk>", "<s>", "</s>"))
    ]
    prepend = {"type": "Prepend", "prepend": blank}
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": blank}
    model = {
        **{"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
        **{"vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])), "merges": merges},
        **{"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None},
    }
    content = {
        **{"version": "1.0", "truncation": None, "padding": None, "added_tokens": special},
        **{"normalizer": {"type": "Sequence", "normalizers": [prepend, blanks]}},
        **{"pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    settings |= {"unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
