"""Checks before training that merging adapters after it would fail or go wrong."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

ADAPTER_CONFIG = "adapter_config.json"


def check_no_adapter_folder(name_or_path: str) -> None:
    """Refuse a folder of adapters in the place of a language model.

    transformers would load the adapters with the base that they name; but a merge reads weights
    anew, a content hash covers one folder, and neither would see the base.

    Raises:
        ValueError: It is one.
    """
    if Path(name_or_path, ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"language_model.name_or_path {name_or_path!r} holds adapters ({ADAPTER_CONFIG}), no "
            "language model; merge them into their base first (peft: PeftModel.from_pretrained("
            "base, folder).merge_and_unload().save_pretrained(out)) and name what that writes, or "
            "name the base"
        )


def check_no_adapters(model: nn.Module, name_or_path: str) -> None:
    """The same of a model that is loaded, as from a repository of adapters on the Hub.

    Raises:
        ValueError: There are adapters in it.
    """
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ValueError(
            f"language_model.name_or_path {name_or_path!r} is a model with adapters in it; merge "
            "them into their base first, or name the base"
        )


def check_mergeable(model: PeftModel, quantization: str) -> None:
    """Make sure that new adapters can be merged into the weights of their model.

    Args:
        model: The language model with its adapters; it may be on the meta device.
        quantization: As configured. Weights that are quantised by it can be had unquantised.

    Raises:
        ValueError: An adapter is on weights that another layer uses too, or the model's own files
            hold quantised weights.
    """
    # All names of each parameter: one with two names is tied.
    owners: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)].append(_plain(name))
    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        for _, parameter in module.get_base_layer().named_parameters(recurse=False):
            shared = owners[id(parameter)]
            if len(shared) > 1:
                raise ValueError(
                    f"lora.target_modules takes in {_plain(name)}, whose weights are tied: they "
                    f"are {' and '.join(sorted(shared))}. Adapters merged into the one would "
                    "change the other; leave it out, as lora.target_modules=all-linear does"
                )
    method = _own_quantization(model)
    if quantization == "none" and method:
        raise ValueError(
            f"the language model's files hold weights quantised by {method}, into which adapters "
            "cannot be merged; name the unquantised model (with "
            "language_model.quantization=nf4 to hold it in 4 bits), or train without lora"
        )


def _own_quantization(model: PeftModel) -> str:
    settings: Any = getattr(model.get_base_model().config, "quantization_config", None)
    if settings is None:
        return ""
    fields = settings if isinstance(settings, Mapping) else vars(settings)
    return str(getattr(fields.get("quant_method"), "value", fields.get("quant_method")))


def _plain(name: str) -> str:
    """A name as it is without adapters."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")
