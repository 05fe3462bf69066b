"""Folders of transformers' models, looked at before it builds what they describe.

A folder comes from anywhere, and a number in its ``config.json`` decides how much is built: the
sizes are compared with the shapes in its weight files, which are there in bytes. What its tokenizer
does to a text is bounded as well. Nothing is allocated here, and no code of a folder is ever run.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as hf_logging

from vidreason.bounded_patterns import pattern_problem
from vidreason.finite_values import describe_nonfinite, no_floats, nonfinite_names
from vidreason.json_object import read_json_object
from vidreason.perception.weight_files import weight_files
from vidreason.perception.weights import open_weights

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"

_COUNTS_OF_LAYERS = frozenset(
    (
        *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_blocks", "n_blocks"),
        *("decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers"),
        *("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts"),
    )
)
"""Numbers of modules, each of which has a tensor of its own, or a row in one."""
_DIVISORS = frozenset(
    ("patch_size", "tubelet_size", "num_attention_heads", "pred_num_attention_heads")
)
"""Sizes that others are divided by, which transformers takes as they are."""
_LARGEST_INTEGER = 2**40  # of a configuration
_ELEMENTS_PER_STORED = 8
"""Weights of 4 bits may be stored as numbers of 32."""
_SLACK_ELEMENTS = 2**24  # for buffers and tied weights, which no file holds
_MAX_TOKENIZER_BYTES = 2**27  # 128 MiB
_MAX_TEMPLATE_BYTES = 2**18  # 256 KiB
_MAX_GROWTH = 64
"""Times that all normalizers together may lengthen a text."""
_MAX_STEPS = 32
"""Normalizers, pre-tokenizers or decoders in a row."""


@contextmanager
def foreign_errors(where: str) -> Iterator[None]:
    """Turn what libraries raise on a file or folder that they cannot use into a ``ValueError``.

    Args:
        where: File or folder and field, the beginning of the message.

    Raises:
        ValueError: Whatever was raised in the block, but for too little memory.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # KeyError, TypeError, RuntimeError, AttributeError, ...
        cause = " ".join(str(error).split()) or "no reason given"
        raise ValueError(f"{where}: {type(error).__name__}: {cause[:400]}") from error


def check_model_folder(folder: Path) -> None:
    """Make sure that a folder can be handed to transformers: its structure and its tokenizer.

    Raises:
        ValueError: A number in ``config.json`` does not go with the weights beside it, or the
            weights or the tokenizer cannot be used. The message names file and field.
    """
    if (folder / CONFIG_FILE).is_file():
        config = read_json_object(folder / CONFIG_FILE)
        shapes = _stored_shapes(folder)
        for field, value in _integers(config):
            _check_integer(f"{folder / CONFIG_FILE}: {field}", field, value, shapes)
    check_tokenizer_folder(folder)


def check_built(model: nn.Module, folder: Path) -> None:
    """Make sure that the weights in a folder can be those of its model on the meta device.

    Raises:
        ValueError: The model is larger, so that numbers in ``config.json`` are not those of the
            weights; or they are integers, which transformers would take for floats, and
            ``config.json`` has no ``quantization_config``.
    """
    if not weight_files(folder).names:
        return  # loading it says what is missing
    with open_weights(str(folder)) as weights:
        shapes = dict(weights.shapes)
        types = {key: weights.type_of(key) for key in shapes}
    if not shapes:
        return
    wanted = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    stored = sum(math.prod(shape) for shape in shapes.values())
    if wanted > _ELEMENTS_PER_STORED * stored + _SLACK_ELEMENTS:
        raise ValueError(
            f"{folder / CONFIG_FILE}: its sizes come to {wanted:,} numbers, but the weights beside "
            f"it hold {stored:,}; they are not those of this config.json"
        )
    if _is_quantised(folder):
        return
    # Beginnings of keys may differ from the model's names. Other integers are counts or masks.
    endings = {_ending(name) for name, p in model.named_parameters() if p.is_floating_point()}
    for key, kind in types.items():
        if _ending(key) in endings and not kind.lower().startswith(("f", "bf")):
            raise no_floats(str(folder), key, kind)


def load_pretrained(
    model_class: Any,  # noqa: ANN401 - a class of transformers
    config: Any,  # noqa: ANN401 - its configuration
    folder: Path,
    where: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    unused_prefixes: Sequence[str] = (),
    dropped_prefixes: Sequence[str] = (),
) -> Any:  # noqa: ANN401
    """Build a model of transformers from a checked folder, with exactly the tensors that it needs.

    Args:
        model_class: The class to build.
        config: What :func:`check_model_folder` has looked at, read by transformers.
        folder: The folder of its weights.
        where: The field and its value, for messages.
        device: On ``meta`` no weights are read; else the model comes on the CPU.
        dtype: Of the weights.
        unused_prefixes: Beginnings of keys that may be missing in the weights.
        dropped_prefixes: Beginnings of keys of the weights that are not wanted.

    Raises:
        ValueError: The weights cannot be read, their keys are others, or they hold values that are
            infinite or not a number, or integers; the first are named.
    """
    with torch.device("meta"), foreign_errors(where):
        config._attn_implementation = None  # a folder may name code on the Hub
        model = model_class._from_config(config, dtype=dtype)
    if device.type == "meta":
        return model
    check_built(model, folder)
    verbosity = hf_logging.get_verbosity()
    # Its report lists the dropped keys as unexpected; what is truly wrong is an error below.
    hf_logging.set_verbosity(logging.ERROR)
    try:
        with foreign_errors(where):
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
            )
    finally:
        hf_logging.set_verbosity(verbosity)
    problems = [
        f"{kind} {key}"
        for kind, prefixes in (("missing", unused_prefixes), ("unexpected", dropped_prefixes))
        for key in sorted(report[f"{kind}_keys"])
        if not key.startswith(tuple(prefixes))
    ]
    if problems:
        shown = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
        raise ValueError(
            f"{where} does not fit {model_class.__name__} ({len(problems)} keys): {shown}. Check "
            "that config.json is that of the weights"
        )
    # What is missing and not used may hold anything.
    read = {n: p for n, p in model.named_parameters() if n not in report["missing_keys"]}
    if nonfinite := nonfinite_names(read):
        raise ValueError(
            f"{where}: {describe_nonfinite(nonfinite)}; its files are damaged, or its training has "
            "diverged"
        )
    return model


def check_tokenizer_folder(folder: Path) -> None:
    """Make sure that a tokenizer's files are whole, and that it cannot blow a text up.

    Raises:
        ValueError: They are not; the message names file and field.
    """
    path = folder / TOKENIZER_CONFIG_FILE
    if path.is_file():
        settings = read_json_object(path)
        longest = settings.get("model_max_length", 1)
        if longest is not None and not _is_positive_number(longest):
            raise ValueError(
                f"{path}: model_max_length is {longest!r:.80}; expected a number of tokens"
            )
        template = settings.get("chat_template")
        named = isinstance(template, list) and all(
            isinstance(one, dict) and isinstance(one.get("template"), str) for one in template
        )
        if not (template is None or isinstance(template, str) or named):
            raise ValueError(
                f"{path}: chat_template is of type {type(template).__name__}; expected text"
            )
    path = folder / TEMPLATE_FILE
    if path.exists() and (not path.is_file() or path.stat().st_size > _MAX_TEMPLATE_BYTES):
        raise ValueError(
            f"{path}: expected a file of at most {_MAX_TEMPLATE_BYTES:,} bytes with a chat template"
        )
    path = folder / TOKENIZER_FILE
    if path.is_file():
        tokenizer = read_json_object(path, _MAX_TOKENIZER_BYTES)
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            _check_steps(f"{path}: {part}", tokenizer.get(part))


def _is_positive_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_quantised(folder: Path) -> bool:
    """Tell whether transformers is told how to read integers as weights."""
    fields = read_json_object(folder / CONFIG_FILE)
    parts = [fields, *(value for value in fields.values() if isinstance(value, dict))]
    return any(part.get("quantization_config") for part in parts)


def _ending(key: str) -> str:
    """Return the last two names of a key, such as ``q_proj.weight``."""
    return ".".join(key.rsplit(".", 2)[-2:])


def _stored_shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    if not weight_files(folder).names:
        return {}
    with open_weights(str(folder)) as weights:
        return dict(weights.shapes)


def _check_integer(
    where: str, field: str, value: int, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if abs(value) > _LARGEST_INTEGER:
        raise ValueError(f"{where} is {value}; it is no size of a model")
    name = field.rpartition(".")[2]
    if name in _DIVISORS and value < 1:
        raise ValueError(f"{where} is {value}; expected 1 or more")
    if name in _COUNTS_OF_LAYERS and shapes:
        rows = max((max(shape, default=0) for shape in shapes.values()), default=0)
        most = max(len(shapes), min(rows, 2**14)) if "expert" in field else len(shapes)
        if value > most:
            raise ValueError(
                f"{where} is {value:,}, but the weights beside it are {len(shapes):,} tensors; "
                "they are not those of this config.json"
            )


def _integers(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    for key, value in values.items():
        inner = f"{path}.{key}" if path else key
        if isinstance(value, int) and not isinstance(value, bool):
            yield inner, value
        elif isinstance(value, dict):
            yield from _integers(value, inner)


def _check_steps(where: str, step: object) -> None:
    """Check a normalizer, pre-tokenizer or decoder with all that it is made of."""
    growth = 1
    steps = list(_flat(where, step))
    if len(steps) > _MAX_STEPS:
        raise ValueError(f"{where} has {len(steps)} steps; at most {_MAX_STEPS} are taken")
    for field, settings in steps:
        pattern = settings.get("pattern")
        text = _pattern_text(pattern)
        if isinstance(pattern, dict) and "Regex" in pattern and (problem := pattern_problem(text)):
            raise ValueError(f"{field}.pattern.Regex cannot be used: {problem}")
        added = next(
            (settings[key] for key in ("content", "prepend", "replacement") if key in settings), ""
        )
        longer = len(added) if isinstance(added, str) else 1
        fixed = isinstance(pattern, dict) and "String" in pattern
        growth *= max(1, -(-longer // max(len(text), 1)) if fixed else longer)
        if growth > _MAX_GROWTH:
            raise ValueError(
                f"{field}: with the steps before it, it may make a text {growth:,} times as long; "
                f"at most {_MAX_GROWTH} times is taken"
            )


def _flat(where: str, step: object, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    if step is None:
        return
    if not isinstance(step, dict) or depth > 8:
        raise ValueError(f"{where}: expected an object of the tokenizers library")
    yield where, step
    for key in ("normalizers", "pretokenizers", "decoders"):
        inner = step.get(key) or []
        if not isinstance(inner, list):
            raise ValueError(f"{where}.{key}: expected a list")
        for index, part in enumerate(inner):
            yield from _flat(f"{where}.{key}[{index}]", part, depth + 1)


def _pattern_text(pattern: object) -> str:
    if isinstance(pattern, dict):
        text = pattern.get("Regex", pattern.get("String", ""))
        return text if isinstance(text, str) else ""
    return pattern if isinstance(pattern, str) else ""
