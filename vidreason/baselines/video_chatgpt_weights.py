"""Video-ChatGPT's released files: base language model, trained part, CLIP and tokenizer.

The layout is that of mbzuai-oryx/Video-ChatGPT at commit 659e04b (eval/model_utils.py:
initialize_model; train/llava_trainer.py). The base is a folder of a LLaVA of Llama 1, whose
``config.json`` names a model type of its time. What was trained is ``video_chatgpt-7B.bin``: the
projector, and word embeddings with three more rows than the base has tokens.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPVisionModel,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vidreason.baselines.part_files import convert, without_buffers
from vidreason.baselines.video_chatgpt_model import VideoChatGPTModel
from vidreason.finite_values import check_weights
from vidreason.json_object import read_json_object
from vidreason.perception.model_folder import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    check_model_folder,
    check_tokenizer_folder,
    foreign_errors,
    load_pretrained,
)
from vidreason.perception.weights import (
    OpenWeights,
    Shape,
    check_keys,
    local_folder,
    open_weights,
)
from vidreason.reasoning.packed_attention import offer_packed_attention

SOURCE = "mbzuai-oryx/Video-ChatGPT@659e04b"
CHECKPOINT_FILE = "video_chatgpt-7B.bin"
"""In the repository MBZUAI/Video-ChatGPT-7B."""
PATCH_TOKEN, START_TOKEN, END_TOKEN = "<vid_patch>", "<vid_start>", "<vid_end>"
"""Added to the base's tokens in this order (eval/model_utils.py: initialize_model)."""

_TRAINED = ("model.mm_projector.weight", "model.mm_projector.bias", "model.embed_tokens.weight")
"""Keys of the trained part (train/llava_trainer.py)."""
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_OTHER_FIELDS = (
    *("num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "max_position_embeddings"),
    *("rope_theta", "rope_scaling", "rope_parameters", "initializer_range"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_CLIP_TEXT = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the base's tokenizer with the video's three tokens.

    Only transformers' class for any ``tokenizer.json`` gives the official token ids: its Llama
    tokenizers of today split the text around added tokens otherwise.

    Raises:
        ValueError: The folder has no ``tokenizer.json``, or it cannot be used.
    """
    if not (folder / TOKENIZER_FILE).is_file():
        raise ValueError(
            f"weights.language_model: the folder {str(folder)!r} has no {TOKENIZER_FILE}, without "
            "which the official token ids cannot be had; let transformers 4.28 write it: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    check_tokenizer_folder(folder)
    with foreign_errors(f"weights.language_model {str(folder)!r}: {TOKENIZER_FILE}"):
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    missing = [name for name in ("bos_token", "eos_token") if getattr(tokenizer, name) is None]
    if missing:
        raise ValueError(
            f"weights.language_model: the tokenizer of {str(folder)!r} names no {missing[0]}; name "
            "<s> and </s> in tokenizer_config.json or special_tokens_map.json"
        )
    tokenizer.add_tokens([PATCH_TOKEN, START_TOKEN, END_TOKEN], special_tokens=True)
    return tokenizer


def llama_config(folder: Path, num_tokens: int) -> LlamaConfig:
    """Read the sizes of the base from its ``config.json``, whatever model type that names.

    Args:
        folder: The base's.
        num_tokens: Rows of the resized word embeddings.

    Raises:
        ValueError: The file is missing or damaged, or lacks a size.
    """
    path = folder / CONFIG_FILE
    check_model_folder(folder)
    fields = read_json_object(path)
    missing = [name for name in _SIZES if name not in fields]
    if missing:
        raise ValueError(f"{path}: {missing[0]} is missing; take the file of the base's repository")
    known: dict[str, Any] = {n: fields[n] for n in (*_SIZES, *_OTHER_FIELDS) if n in fields}
    with foreign_errors(str(path)):
        return LlamaConfig(vocab_size=num_tokens, tie_word_embeddings=False, **known)


def load_vision(clip: str, revision: str | None, dtype: torch.dtype) -> CLIPVisionModel:
    """Load the vision tower of a CLIP, on the CPU.

    Raises:
        ValueError: The folder or repository is missing, damaged or holds no CLIP.
    """
    where = f"weights.clip {clip!r}"
    folder = local_folder(clip, revision)
    check_model_folder(folder)
    with foreign_errors(where):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type not in ("clip", "clip_vision_model"):
        raise ValueError(f"{where} holds a model of type {config.model_type!r}, not 'clip'")
    tower: CLIPVisionModel = load_pretrained(
        transformers.CLIPVisionModel,
        getattr(config, "vision_config", config),
        folder,
        where,
        device=torch.device("cpu"),
        dtype=dtype,
        dropped_prefixes=_CLIP_TEXT,
    )
    return tower


def load_model(
    vision: CLIPVisionModel,
    folder: Path,
    checkpoint: str,
    num_tokens: int,
    device: torch.device,
    dtype: torch.dtype,
) -> VideoChatGPTModel:
    """Put the base, the trained part and the vision tower together, in eval mode.

    The output layer has no trained rows for the video's tokens. The official code draws them at
    random at each start; here they are zero.

    Args:
        vision: The tower, in ``dtype``.
        folder: The base's.
        checkpoint: The trained part: the official file, or what :func:`convert_official` wrote. If
            it has further tensors of the language model, they replace the base's.
        num_tokens: Tokens that the tokenizer knows.
        device: Where the model goes.
        dtype: Of the weights.

    Raises:
        ValueError: A file is missing or damaged, or keys or shapes are not those of the model.
    """
    config = llama_config(folder, num_tokens)
    with torch.device("meta"), foreign_errors(str(folder / CONFIG_FILE)):
        language_model: LlamaForCausalLM = LlamaForCausalLM._from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, attn_implementation="sdpa"
        )
        model = VideoChatGPTModel(vision, language_model)
    # Without memory still, for a probe that has to run a model without values.
    structure = copy.deepcopy(language_model)
    tensors = _read(folder, checkpoint, _official_shapes(model))
    targets = {_our_name(key): value.to(device, dtype) for key, value in tensors.items()}
    # assign: the model is on the meta device. The tower has its weights already.
    model.load_state_dict(targets | _tower(vision), assign=True)
    # A buffer that follows from the sizes, and is in no file.
    language_model.model.rotary_emb = LlamaRotaryEmbedding(config)
    # Each call says what ends its texts.
    language_model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=None
    )
    offer_packed_attention(language_model, structure)
    return model.to(device).requires_grad_(False).eval()


def convert_official(checkpoint: str, path: str | Path) -> None:
    """Write the trained part as safetensors, under the official keys.

    Args:
        checkpoint: The official file.
        path: Where to; the metadata name the official repository and the sha256 of the file.

    Raises:
        ValueError: The file is missing, damaged or another.
    """
    with open_weights(checkpoint) as file:
        _check_trained(checkpoint, file.shapes)
    metadata = {"source": SOURCE, "content": "Video-ChatGPT, trained part, official keys"}
    convert(checkpoint, Path(path), ("model.", "lm_head."), (), metadata)


def checkpoint_file(checkpoint: str, revision: str | None) -> str:
    """Return the file of the trained part: itself, in a folder, or in a repository of the Hub.

    Raises:
        ValueError: There is none.
    """
    if Path(checkpoint).is_file():
        return checkpoint
    folder = local_folder(checkpoint, revision, (CHECKPOINT_FILE, "model.safetensors"))
    for name in ("model.safetensors", CHECKPOINT_FILE):
        if (folder / name).is_file():
            return str(folder / name)
    raise ValueError(
        f"weights.checkpoint: the folder {str(folder)!r} has neither {CHECKPOINT_FILE} nor "
        "model.safetensors; name the file"
    )


def _read(folder: Path, checkpoint: str, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Each expected tensor, from the trained part where it has it, else from the base."""
    with open_weights(checkpoint) as trained, open_weights(str(folder)) as base:
        _check_trained(checkpoint, trained.shapes)
        num_rows = trained.shapes["model.embed_tokens.weight"][0]
        num_tokens = expected["model.embed_tokens.weight"][0]
        if num_rows != num_tokens:
            raise ValueError(
                f"weights {checkpoint!r} have word embeddings for {num_rows} tokens, but the "
                f"tokenizer of {str(folder)!r} has {num_tokens} with the video's three; take the "
                "tokenizer of the base that it was trained on"
            )
        # What was trained replaces what the base has of the same name.
        stored = without_buffers({**base.shapes, **trained.shapes})
        files: dict[str, OpenWeights] = {
            key: trained if key in trained.shapes else base for key in stored
        }
        sources = f"{folder} with {checkpoint}"
        check_keys(sources, "Video-ChatGPT", expected, stored, {"lm_head.weight": _resize_rows})
        tensors = {key: files[key].read(key) for key in expected}
        for key, tensor in tensors.items():
            check_weights(checkpoint if key in trained.shapes else str(folder), key, tensor)
    # The base's output layer has no rows for the video's three tokens.
    head = "lm_head.weight"
    return tensors | {head: _resize_rows(tensors[head], expected[head])}


def _check_trained(path: str, shapes: Mapping[str, Shape]) -> None:
    missing = [key for key in _TRAINED if key not in shapes]
    if missing:
        raise ValueError(
            f"weights {path!r} are not the trained part of Video-ChatGPT: missing {missing[0]}, "
            f"found {', '.join(sorted(shapes)[:3])}; take {CHECKPOINT_FILE} of "
            "MBZUAI/Video-ChatGPT-7B"
        )


def _official_shapes(model: VideoChatGPTModel) -> dict[str, Shape]:
    """Shapes of the language model's and the projector's tensors under the official keys."""
    parts: dict[str, nn.Module] = {
        "": model.language_model,
        "model.mm_projector.": model.mm_projector,
    }
    return {
        prefix + key: tuple(tensor.shape)
        for prefix, part in parts.items()
        for key, tensor in part.state_dict().items()
    }


def _our_name(key: str) -> str:
    return key[len("model.") :] if ".mm_projector." in key else f"language_model.{key}"


def _tower(vision: CLIPVisionModel) -> dict[str, Tensor]:
    return {f"vision.{key}": tensor for key, tensor in vision.state_dict().items()}


def _resize_rows(tensor: Tensor, shape: Shape) -> Tensor:
    """Cut rows off, or append rows of zeros."""
    resized = tensor.new_zeros(shape)
    num_rows = min(len(tensor), len(resized))
    resized[:num_rows] = tensor[:num_rows]
    return resized
