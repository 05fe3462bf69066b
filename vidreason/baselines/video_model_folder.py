"""A video language model's folder, or repository of the Hub, as its model and its processor."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoProcessor, GenerationConfig, PreTrainedModel

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.video_turns import RELEASED_WITHOUT_TEMPLATE
from vidreason.evaluation.manifest import digest_of
from vidreason.perception.model_folder import (
    CONFIG_FILE,
    check_model_folder,
    foreign_errors,
    load_pretrained,
)
from vidreason.perception.weights import local_folder
from vidreason.pretrained.frozen_parts import content_hash, content_hash_of_file
from vidreason.pretrained.hub import READ_FILES

_PLACEHOLDERS = (
    *("image_token_id", "video_token_id", "image_token_index", "video_token_index"),
    "image_patch_id",
)
"""Fields of a model's configuration with a token that stands for visual ones."""

_INPUT_SUFFIXES = (".json", ".jinja", ".model", ".txt")


class VideoModel(NamedTuple):
    """A video language model with all that its inputs are made with."""

    model: PreTrainedModel
    processor: Any
    """Processor of transformers, with a tokenizer and a video processor."""
    template: str
    """Chat template."""
    placeholders: frozenset[int]
    """Token ids that stand for visual tokens."""
    stop_ids: tuple[int, ...]
    """Tokens that its folder says to end answers at."""


def model_name(config: BaselineConfig) -> str:
    """Return the folder or the id on the Hub that a configuration names.

    Raises:
        ValueError: It names none, or other parts.
    """
    name = config.weights.get("model", "")
    if not name or len(config.weights) > 1:
        raise ValueError(
            f"baselines.weights is {config.weights}; a video language model of transformers has "
            "one part: {model: FOLDER}, or {model: OWNER/NAME} for a repository of the Hub"
        )
    return name


def load_video_model(config: BaselineConfig, device: torch.device) -> VideoModel:
    """Load a video language model in eval mode, and its processor.

    Nothing that a folder brings is run: a model with code of its own is refused.

    Raises:
        ValueError: There is no such model, its files are damaged or incomplete, transformers has
            no class for it, or the class takes no video.
    """
    where = f"baselines.weights.model: {model_name(config)!r}"
    folder = video_model_folder(config)
    check_model_folder(folder)
    with foreign_errors(where):
        structure = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    classes = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if type(structure) not in classes:
        raise ValueError(
            f"{where} holds a model of type {structure.model_type!r}, which transformers "
            f"{transformers.__version__} does not know as one that answers about pictures and "
            "videos; take a released form for transformers (often named ...-hf)"
        )
    auto: Any = AutoProcessor
    with foreign_errors(where):
        processor = auto.from_pretrained(folder, trust_remote_code=False)
    for part in ("tokenizer", "video_processor"):
        if getattr(processor, part, None) is None:
            raise ValueError(
                f"{where} has a {type(processor).__name__} without a {part}; a model that is shown "
                "videos needs preprocessor_config.json or video_preprocessor_config.json, and "
                "tokenizer files"
            )
    model: Any = load_pretrained(
        classes[type(structure)],
        structure,
        folder,
        where,
        device=torch.device("cpu"),
        dtype=getattr(torch, config.dtype),
        # Released files hold leftovers, such as buffers of older versions.
        dropped_prefixes=("",),
    )
    # One id, several, or None.
    stop_ids = model.generation_config.eos_token_id if model.generation_config else None
    # Recommendations of the folder, such as a penalty, are not used: decoding has one place.
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    named = [getattr(structure, name, None) for name in _PLACEHOLDERS]
    return VideoModel(
        model=model.to(device).requires_grad_(False).eval(),
        processor=processor,
        template=_template(processor, structure.model_type, where),
        placeholders=frozenset(token_id for token_id in named if isinstance(token_id, int)),
        stop_ids=tuple(stop_ids if isinstance(stop_ids, list) else [stop_ids] if stop_ids else []),
    )


def _template(processor: Any, model_type: str, where: str) -> str:  # noqa: ANN401 - of transformers
    # A processor may have several templates, by name.
    template = processor.chat_template or processor.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    template = template or RELEASED_WITHOUT_TEMPLATE.get(model_type)
    if not isinstance(template, str):
        raise ValueError(
            f"{where} has no chat template; put the one that the model was trained with into "
            "chat_template.jinja in its folder"
        )
    return template


def video_model_folder(config: BaselineConfig) -> Path:
    """Return the model's folder on this machine; a repository of the Hub is downloaded.

    Raises:
        ValueError: There is no such folder or repository, or the folder holds no model.
    """
    name = model_name(config)
    where = f"baselines.weights.model: {name!r}"
    if Path(name).is_dir() and config.revision is not None:
        raise ValueError(
            f"baselines.revision is {config.revision!r}, but {where} is a local folder, which has "
            "none; leave it out"
        )
    try:
        folder = local_folder(name, config.revision, READ_FILES)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; check the name, or `hf auth login`") from error
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{where} is a folder without {CONFIG_FILE}; name a model's folder")
    return folder


def identity_of(config: BaselineConfig) -> dict[str, str]:
    """Return hashes of the weights, and of the files that its inputs are made with.

    Raises:
        ValueError: They are missing.
    """
    folder = video_model_folder(config)
    # Tokenizer, processor and chat template decide answers as weights do.
    files = [file for file in sorted(folder.iterdir()) if file.suffix in _INPUT_SUFFIXES]
    hashes = [[file.name, content_hash_of_file(file)] for file in files]
    return {"model": content_hash(str(folder)), "inputs": digest_of(hashes)}
