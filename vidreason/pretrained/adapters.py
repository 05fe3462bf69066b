"""LoRA adapters in peft's own format, so that plain peft reads them."""

import copy
import json
from pathlib import Path
from typing import Any, cast

from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import save_file
from transformers import PreTrainedModel

from vidreason.perception.weights import read_weights
from vidreason.reasoning.language_model import LoraSettings, add_lora

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_INCIDENTAL = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")
"""Fields of ``adapter_config.json`` that say where an adapter comes from, not what it computes."""


def save_adapters(model: PeftModel, folder: Path, base: str) -> None:
    """Write the adapters of ``model``, as ``PeftModel.from_pretrained(base, folder)`` reads them.

    Args:
        model: The language model; its own weights may be on the meta device.
        folder: Where to; it exists.
        base: The language model without adapters: a folder or a repository on the Hub.
    """
    config = copy.copy(_adapter_config(model))
    config.base_model_name_or_path = base
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        # The order of a set differs from process to process.
        config.target_modules = cast(Any, sorted(config.target_modules))
    config.save_pretrained(str(folder))
    # Told, because peft would else ask the Hub whether the word embeddings were resized.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: value.contiguous() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_adapters(base: PreTrainedModel, folder: Path, settings: LoraSettings) -> PeftModel:
    """Put the adapters in ``folder`` on ``base``.

    Raises:
        ValueError: The files are damaged, hold other adapters than ``settings`` says, or do not
            have exactly the tensors of these.
    """
    model = add_lora(base, settings)
    try:
        found = PeftConfig.from_pretrained(str(folder))
    except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error
    expected, differing = _described(_adapter_config(model)), _described(found)
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
    tensors = read_weights(
        str(folder / WEIGHTS_FILE),
        {name: tuple(value.shape) for name, value in state.items()},
        model="the language model's adapters",
    )
    set_peft_model_state_dict(model, tensors)
    return model.eval()


def _adapter_config(model: PeftModel) -> LoraConfig:
    return cast(LoraConfig, model.peft_config["default"])


def _described(config: PeftConfig) -> dict[str, Any]:
    fields = {name: getattr(config, name) for name in config.to_dict()}
    return {
        name: set(value) if isinstance(value, list | set) else value
        for name, value in fields.items()
        if name not in _INCIDENTAL
    }
