"""Models of transformers that look at pictures, read from a folder or the Hub for one task each."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, GenerationConfig

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.viper.modules import ModuleError
from vidreason.perception.model_folder import check_model_folder, foreign_errors, load_pretrained
from vidreason.perception.weights import local_folder
from vidreason.pretrained.hub import READ_FILES

_CLASSES = {
    "detector": "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING",
    "matcher": "MODEL_MAPPING",
    "vqa": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "depth": "MODEL_FOR_DEPTH_ESTIMATION_MAPPING",
}
"""By part, the table of transformers with the classes for its task."""
_TYPES = {
    "detector": ("grounding-dino", "mm-grounding-dino", "owlv2", "owlvit"),
    "matcher": ("clip", "siglip", "siglip2"),
    "depth": ("depth_anything", "dpt", "glpn", "zoedepth"),
}
"""By part, the types of model whose inputs and outputs are known here; any for ``vqa``."""
_EXAMPLES = {
    "detector": "IDEA-Research/grounding-dino-base",
    "matcher": "openai/clip-vit-large-patch14-336",
    "vqa": "Salesforce/blip2-flan-t5-xl",
    "depth": "depth-anything/Depth-Anything-V2-Large-hf",
    "language_model": "Qwen/Qwen2.5-7B-Instruct",
}
"""Repositories of the Hub that messages name."""


class PretrainedPart(NamedTuple):
    """A model in eval mode, and the processor of its inputs."""

    model: Any
    processor: Any
    kind: str
    """Type of the model, as its configuration names it."""


def part_name(part: str, config: BaselineConfig) -> str:
    """Return the folder or repository that a configuration names for a part.

    Raises:
        ModuleError: It names none.
    """
    if name := config.weights.get(part):
        return name
    raise ModuleError(
        f"baselines: weights.{part} is missing, and a program calls it; name a folder or a "
        f"repository of the Hub in transformers' layout, such as {part}: {_EXAMPLES[part]}"
    )


def load_part(part: str, config: BaselineConfig, device: torch.device) -> PretrainedPart:
    """Load the model of a part, which must be of a class for its task.

    Raises:
        ModuleError: It is missing, damaged or for another task.
    """
    name = part_name(part, config)
    where = f"baselines: weights.{part}: {name!r}"
    try:
        folder = local_folder(name, config.revision, READ_FILES)
        return _load(part, folder, where, getattr(torch, config.dtype), device)
    # It is a ValueError, too, and names the part already.
    except ModuleError:
        raise
    except ValueError as error:
        message = str(error)
        raise ModuleError(message if where in message else f"{where}: {message}") from error


def _load(
    part: str, folder: Path, where: str, dtype: torch.dtype, device: torch.device
) -> PretrainedPart:
    check_model_folder(folder)
    with foreign_errors(where):
        structure = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind, classes = structure.model_type, getattr(transformers, _CLASSES[part])
    if type(structure) not in classes or kind not in _TYPES.get(part, (kind,)):
        expected = " or ".join(_TYPES.get(part, ("a model that answers questions about pictures",)))
        raise ValueError(
            f"{where} holds a model of type {kind!r}; expected {expected}, such as "
            f"{_EXAMPLES[part]}"
        )
    reader: Any = AutoImageProcessor if part == "depth" else AutoProcessor
    with foreign_errors(where):
        processor = reader.from_pretrained(folder, trust_remote_code=False)
    model = load_pretrained(
        classes[type(structure)],
        structure,
        folder,
        where,
        device=torch.device("cpu"),
        dtype=dtype,
        dropped_prefixes=("",),  # released files hold leftovers, such as buffers of older versions
    )
    if part == "vqa":
        # A folder's recommendations, such as a penalty, are not used.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return PretrainedPart(model.to(device).requires_grad_(False).eval(), processor, kind)
