"""LoRA adapters in peft's own format, so that plain peft reads them."""

import copy
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import save_file
from transformers import PreTrainedModel

from vidreason.finite_values import as_weights
from vidreason.json_object import read_json_object
from vidreason.perception.weights import open_weights, read_weights
from vidreason.reasoning.language_model import add_lora
from vidreason.reasoning.reasoner_config import LoraSettings

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_INCIDENTAL = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")
"""Fields of ``adapter_config.json`` that say where an adapter comes from, not what it computes."""


def save_adapters(
    model: PeftModel,
    folder: Path,
    base: str,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the adapters of ``model``, as ``AutoPeftModelForCausalLM.from_pretrained`` reads them.

    Args:
        model: The language model; its own weights may be on the meta device.
        folder: Where to; it exists.
        base: The language model without adapters: a folder or a repository on the Hub.
        revision: Of that repository.
        dtype: Of the weights in the file; None for the dtype that they have.
    """
    # A copy: the model in memory keeps its own.
    config = copy.copy(_adapter_config(model))
    config.base_model_name_or_path = base
    config.revision = revision
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        # The order of a set differs from process to process.
        config.target_modules = cast(Any, sorted(config.target_modules))
    config.save_pretrained(str(folder))
    # Told, because peft would else ask the Hub whether the word embeddings were resized.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: value.to(dtype).contiguous() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_adapters(base: PreTrainedModel, folder: Path, settings: LoraSettings) -> PeftModel:
    """Put the adapters in ``folder`` on ``base``.

    Raises:
        ValueError: The files are damaged, hold other adapters than ``settings`` says, do not have
            exactly the tensors of these, or hold numbers that are no weights.
    """
    # The rank first: adapters of a wrong one may be too large for the memory.
    _check_rank(folder, settings)
    model = add_lora(base, settings)
    read_json_object(folder / CONFIG_FILE)
    try:
        stored = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # peft raises anything
        raise ValueError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error
    expected, differing = _described(_adapter_config(model)), _described(stored)
    differences = [
        f"{name} is {differing.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if differing.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{folder / CONFIG_FILE} is not what the folder's config.json says under "
            f"reasoner.lora: {'; '.join(differences)}"
        )
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    path = str(folder / WEIGHTS_FILE)
    tensors = read_weights(
        path,
        {name: tuple(value.shape) for name, value in state.items()},
        model="the language model's adapters",
        move=lambda key, tensor: as_weights(path, key, tensor, state[key].dtype),
    )
    set_peft_model_state_dict(model, tensors)
    return model.eval()


def _check_rank(folder: Path, settings: LoraSettings) -> None:
    """Compare the rank with the weights' before adapters of it take memory.

    Raises:
        ValueError: It is another.
    """
    with open_weights(str(folder / WEIGHTS_FILE)) as weights:
        # The first matrix of an adapter is (rank, inputs).
        stored = {shape[0] for key, shape in weights.shapes.items() if "lora_A" in key and shape}
    if stored and settings.rank not in stored:
        raise ValueError(
            f"{folder / CONFIG_FILE}: r is {settings.rank} by the folder's config.json "
            f"(reasoner.lora.rank), but {WEIGHTS_FILE} holds adapters of rank "
            f"{', '.join(map(str, sorted(stored)))}"
        )


def _adapter_config(model: PeftModel) -> LoraConfig:
    return cast(LoraConfig, model.peft_config["default"])


def _described(config: PeftConfig) -> dict[str, Any]:
    fields = {name: getattr(config, name) for name in config.to_dict()}
    return {
        name: set(value) if isinstance(value, list | set) else value
        for name, value in fields.items()
        if name not in _INCIDENTAL
    }
