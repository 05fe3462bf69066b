"""The language model (section 3.3): any causal one of transformers, frozen; LoRA adapters on it.

Notable choices:

* A model is built without values first, so that its size is compared with that of its weights
  before memory is taken, and so that it is known whether its attention can be told of rows.
* Nothing that a folder says is run, and no code is fetched.
* Weights that are missing are an error; transformers would draw them at random.
* Adapters are merged into weights that are loaded anew, unquantised and on the CPU: rounding the
  sum to 4 bits would lose most of what was learnt.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vidreason.hub_access import hub_or_cache
from vidreason.perception.model_folder import (
    check_built,
    check_model_folder,
    check_tokenizer_folder,
)
from vidreason.reasoning.adapter_checks import check_no_adapter_folder, check_no_adapters
from vidreason.reasoning.packed_attention import offer_packed_attention
from vidreason.reasoning.reasoner_config import LanguageModelConfig, LoraSettings
from vidreason.secrets import first_line

_SCALE_SAMPLE = 4096
"""Number of word embeddings that their typical size is measured on."""
_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def load_language_model(
    config: LanguageModelConfig, device: str | torch.device = "cpu", *, strict: bool = False
) -> PreTrainedModel:
    """Load the frozen language model, in eval mode.

    Each weight goes from its file straight to ``device``, in the configured number type. On the CPU
    weights that the file holds in this type are mapped, not copied: processes share them.

    Args:
        config: Which model.
        device: Where to. On ``meta`` only ``config.json`` is read: shapes without values, of the
            unquantised model.
        strict: Also refuse weights in the folder that the model has no use for.

    Raises:
        ValueError: There is no such model, its files lack weights that the model needs (which
            transformers would fill with random numbers) or hold integers for them, or
            ``quantization`` needs a package that is not installed.
    """
    check_no_adapter_folder(config.name_or_path)
    device = torch.device(device)
    auto: Any = AutoModelForCausalLM  # its methods are typed for a part of their answers only
    options: dict[str, Any] = {"dtype": _DTYPES[config.dtype]}
    options["attn_implementation"] = None if config.attention == "auto" else config.attention
    options["experts_implementation"] = None
    if config.quantization != "none" and device.type != "meta":
        options["quantization_config"] = _four_bits(config)
    source = _source(config)
    folder = _folder_here(config)
    if folder is not None:
        check_model_folder(folder)
    with _foreign_errors(config):
        # First without values: its size is compared with the weights' before memory is taken.
        structure = AutoConfig.from_pretrained(**source)
        # A folder may name code on the Hub, which would be downloaded and run.
        structure._attn_implementation = options["attn_implementation"]
        structure._experts_implementation = None
        unquantised = {name: value for name, value in options.items() if "quant" not in name}
        with torch.device("meta"):
            model = auto.from_config(structure, trust_remote_code=False, **unquantised)
    valueless = model
    report: dict[str, Any] = {}
    if device.type != "meta":
        if folder is not None:
            check_built(model, folder)
        with _foreign_errors(config):
            model, report = auto.from_pretrained(
                **source,
                config=structure,
                device_map={"": device},
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, with names, and refused below
                **options,
            )
    # What transformers has reported, and what it leaves alone: adapters beside the weights.
    _check_loading(config, report, strict=strict)
    check_no_adapters(model, config.name_or_path)
    offer_packed_attention(model, valueless)
    if config.gradient_checkpointing:
        # The method's name until transformers 5.22 or so is the second one.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return cast(PreTrainedModel, model.requires_grad_(False).eval())


def at_hand(config: LanguageModelConfig) -> LanguageModelConfig:
    """The same model, named by the folder on this machine with its ``config.json``.

    Nothing is downloaded. The folder may hold no weights.

    Raises:
        ValueError: There is no such folder, and no such file in the Hugging Face cache.
    """
    name = config.name_or_path
    if Path(name).is_dir():
        return config
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=config.revision)
    except HFValidationError:
        cached = None  # a path
    if not isinstance(cached, str):
        revision = "" if config.revision is None else f" --revision {config.revision}"
        raise ValueError(
            f"language_model.name_or_path {name!r}: its config.json is not on this machine; get it "
            f"by `hf download {name} config.json{revision}` (after `hf auth login` if its licence "
            "must be accepted first), or name a local folder"
        )
    return replace(config, name_or_path=str(Path(cached).parent), revision=None)


def load_tokenizer(config: LanguageModelConfig) -> PreTrainedTokenizerBase:
    """Load the language model's tokenizer.

    Raises:
        ValueError: There is no such model.
    """
    source = _source(config)
    folder = _folder_here(config)
    if folder is not None:
        check_tokenizer_folder(folder)
    with _foreign_errors(config):
        return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(**source))


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> PeftModel:
    """Put adapters, in float32, into ``model``; only they require gradients then.

    Raises:
        ValueError: ``target_modules`` names no layer of the model.
    """
    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        return _wrap(model, adapters)
    except ValueError as error:
        linear = {
            n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)
        }
        raise ValueError(
            f"lora.target_modules is {settings.target_modules!r}, for which peft finds no layer "
            f"({' '.join(str(error).split())[:200]}); the linear layers of this model are named "
            f"{', '.join(sorted(linear))}: write 'all-linear', or '.*\\.(' with names and | between"
        ) from error


def merge_lora(model: nn.Module, config: LanguageModelConfig) -> PreTrainedModel:
    """A plain model with all that was trained of ``model`` in its weights; that stays as it is.

    The frozen weights are loaded anew on the CPU, unquantised, and each layer's adapters are added
    in place: only one copy is made, none of it on an accelerator, and ``model`` itself may have its
    frozen weights in 4 bits or on the meta device. (Rounding the sum to 4 bits once more would lose
    most of what the adapters have learnt.)

    Args:
        model: The language model, with or without adapters.
        config: What it was loaded from.

    Raises:
        ValueError: The unquantised weights cannot be loaded.
    """
    plain = load_language_model(replace(config, quantization="none", gradient_checkpointing=False))
    trained = trained_names(model)
    with torch.no_grad():
        for name, value in causal_lm(model).named_parameters():
            if name in trained:
                # A layer with adapters holds its own weights one step further down.
                plain.get_parameter(name.replace(".base_layer.", ".")).copy_(value)
    if not isinstance(model, PeftModel):
        return plain
    adapted = _wrap(plain, cast(LoraConfig, model.peft_config["default"]))
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    set_peft_model_state_dict(adapted, state)
    return cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True))


def trained_names(model: nn.Module) -> frozenset[str]:
    """The language model's own parameters that train, adapters aside: normally none.

    Names are those in :func:`causal_lm`'s model.
    """
    named = causal_lm(model).named_parameters()
    return frozenset(name for name, p in named if p.requires_grad and ".lora_" not in name)


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The model of transformers behind a LoRA wrapper, adapters in place; else ``model`` itself."""
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)


def num_word_embeddings(model: nn.Module) -> int:
    """Return the number of tokens that the language model has word embeddings for."""
    return cast(Tensor, causal_lm(model).get_input_embeddings().weight).shape[0]


def word_embedding_size(model: nn.Module) -> tuple[int, float]:
    """Return width and root mean square of the word embeddings, as the layers get them.

    On the meta device the root mean square is that of a newly initialised model.
    """
    embeddings = causal_lm(model).get_input_embeddings()
    weight = embeddings.weight
    assert isinstance(weight, torch.Tensor)
    if weight.is_meta:
        return weight.shape[1], float(getattr(causal_lm(model).config, "initializer_range", 0.02))
    with torch.no_grad():
        # Through the layer itself: some models scale what they look up.
        ids = torch.arange(min(len(weight), _SCALE_SAMPLE), device=weight.device)
        return weight.shape[1], float(embeddings(ids).float().square().mean().sqrt())


def set_language_model_mode(model: nn.Module, training: bool) -> None:
    """Put what trains into training mode and keep what is frozen in eval mode.

    In eval mode the dropout of a frozen layer does not act. A layer counts as frozen if neither
    itself nor a part of it that is no LoRA adapter requires gradients.
    """
    training_parts: set[str] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and "lora_" not in name:
            path = name.split(".")
            training_parts.update(".".join(path[:depth]) for depth in range(len(path)))
    for name, module in model.named_modules():
        module.training = training and ("lora_" in name or name in training_parts)
        # transformers checkpoints a layer only while the layer itself is in training mode; what
        # holds its dropout are its parts.
        module.training |= training and getattr(module, "gradient_checkpointing", False)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for the block; each of its modules gets its mode back."""
    in_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in in_training:
            part.training = True


def _wrap(model: PreTrainedModel, adapters: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        # peft 0.21 asks for this property under the name it had before transformers 5.2x.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # Refused with its name in check_mergeable.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        return cast(PeftModel, get_peft_model(model, adapters))


def _folder_here(config: LanguageModelConfig) -> Path | None:
    """The model's folder on this machine, maybe in the Hub's cache; None if it is not here yet."""
    try:
        return Path(at_hand(config).name_or_path)
    except ValueError:
        return None


@contextmanager
def _foreign_errors(config: LanguageModelConfig) -> Iterator[None]:
    """Turn what transformers and tokenizers raise on a folder that they cannot use into ours."""
    why = ""
    try:
        if Path(config.name_or_path).is_dir():
            yield
        else:
            with hub_or_cache() as why:
                yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # they raise anything: KeyError, TypeError, RuntimeError, ...
        raise ValueError(_not_found(config, error, why)) from error


def _source(config: LanguageModelConfig) -> dict[str, Any]:
    """Arguments that tell the loading functions of transformers where the model is."""
    if config.revision is not None and Path(config.name_or_path).is_dir():
        raise ValueError(
            f"language_model.revision is {config.revision!r}, but name_or_path "
            f"{config.name_or_path!r} is a local folder, which has no revisions; leave it out"
        )
    return {
        "pretrained_model_name_or_path": config.name_or_path,
        "revision": config.revision or "main",
        "trust_remote_code": False,  # left open, transformers asks on the terminal
    }


def _four_bits(config: LanguageModelConfig) -> BitsAndBytesConfig:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"language_model.quantization={config.quantization} needs the package bitsandbytes: "
            "pip install 'vidreason[quantize]'"
        )
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_DTYPES[config.dtype],
    )


def _check_loading(config: LanguageModelConfig, report: dict[str, Any], *, strict: bool) -> None:
    kinds = ("missing_keys", "mismatched_keys") + (("unexpected_keys",) if strict else ())
    wrong = {kind: sorted(map(str, report.get(kind, ()))) for kind in kinds}
    wrong = {kind: keys for kind, keys in wrong.items() if keys}
    if wrong:
        raise ValueError(
            f"language_model.name_or_path {config.name_or_path!r}: its weights do not fit its "
            f"config.json: {wrong}; the folder is damaged or holds another model"
        )


def _not_found(config: LanguageModelConfig, error: Exception, why_no_hub: str) -> str:
    cause = why_no_hub or first_line(error)
    where = "a folder" if Path(config.name_or_path).is_dir() else "no folder here"
    if "custom code" in cause:
        return (
            f"language_model.name_or_path {config.name_or_path!r} is a model with code of its own, "
            "which is not run; choose one that transformers itself can build"
        )
    return (
        f"language_model.name_or_path {config.name_or_path!r} is {where} and could not be loaded "
        f"({cause}). Give the path of a Hugging Face folder "
        "with config.json, weights and tokenizer; or the name of a repository on the Hub, after "
        "`hf auth login` if its licence must be accepted first"
    )
