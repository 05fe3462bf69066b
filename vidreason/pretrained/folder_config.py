"""``config.json`` of a reasoner folder: its form, its configurations, its frozen parts."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidreason.config import config_from_values
from vidreason.fusion.config import FUSION_FILE, MAX_WIDTH
from vidreason.json_object import read_json_object
from vidreason.perception.added_origins import (
    AddedPart,
    check_declared,
    check_named_modules,
    check_origins,
)
from vidreason.perception.config import PerceiverConfig
from vidreason.pretrained import adapters
from vidreason.pretrained.folder_files import check_files
from vidreason.pretrained.frozen_parts import PARTS, FrozenPart
from vidreason.reasoning.reasoner_config import FuturesConfig, ReasonerConfig

Form = Literal["trained", "merged"]

FORMAT_VERSION = 2
CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CARD_FILE = "README.md"
LANGUAGE_MODEL_FOLDER = "language_model"


@dataclass(kw_only=True)
class FolderConfig:
    """The content of ``config.json``. The location of a frozen part is in its reference alone."""

    format_version: int
    form: Form
    visual_dim: int
    reasoner: ReasonerConfig
    perceiver: PerceiverConfig
    futures: FuturesConfig = field(default_factory=FuturesConfig)
    """Search for next events, with the temperature that was fitted; all other decoding is in
    :data:`GENERATION_FILE`, in transformers' names."""
    step: int | None = None
    """Optimizer steps of the training stage that it comes out of; None where that is not known."""
    frozen_parts: dict[str, FrozenPart] = field(default_factory=dict)
    added_parts: dict[str, AddedPart] = field(default_factory=dict)
    """Origins of an encoder and a segmenter from outside of this project; folders from before they
    were recorded have none."""
    weights: dict[str, str] = field(default_factory=dict)
    """sha256 of the folder's own files of weights, by their paths in it; folders from before they
    were recorded have none."""

    def __post_init__(self) -> None:
        if not 1 <= self.visual_dim <= MAX_WIDTH:
            raise ValueError(f"visual_dim is {self.visual_dim}; it is from 1 to {MAX_WIDTH:,}")
        unknown = sorted(self.frozen_parts.keys() - set(PARTS))
        if unknown:
            raise ValueError(f"frozen_parts has {unknown[0]!r}; the parts are {', '.join(PARTS)}")


def read_config(folder: Path) -> FolderConfig:
    """Read ``config.json``, and make sure that the files of its form are there.

    Raises:
        ValueError: The folder is incomplete, damaged, of another format version or no reasoner's.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(
            f"{str(folder)!r} is no reasoner folder: it has no {CONFIG_FILE}; give one that "
            "training or `vidreason export` has written, such as <run_dir>/reasoner"
        )
    check_files(folder)
    values = read_json_object(path)
    version = values.get("format_version")
    if version is None or "form" not in values:
        raise ValueError(
            f"{str(folder)!r} is no reasoner folder: its {CONFIG_FILE} has no format_version and "
            "form, as that of a language model by itself has none"
        )
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: the folder has format version {version}, this program reads version "
            f"{FORMAT_VERSION}; export it again from its checkpoint with this vidreason, or use "
            "the one that wrote it"
        )
    # What the folder says is checked before any of its files is believed.
    _check_declared(values, str(path))
    config = config_from_values(FolderConfig, values, str(path))
    check_named_modules(str(path), config.perceiver)
    check_origins(str(path), config.perceiver, config.added_parts)
    # The files of its form, so that a copy that broke off is told at once.
    names = [FUSION_FILE, GENERATION_FILE]
    if config.form == "merged":
        names.append(f"{LANGUAGE_MODEL_FOLDER}/config.json")
    elif config.reasoner.lora is not None:
        files = (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE)
        names += [f"{LANGUAGE_MODEL_FOLDER}/{name}" for name in files]
    names.append(f"{LANGUAGE_MODEL_FOLDER}/tokenizer_config.json")
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{str(folder)!r} is incomplete: it has no {name}; copy it again")
    return config


def _check_declared(values: dict[str, Any], source: str) -> None:
    """Say which package is missing, before its part is an unknown name."""
    perceiver, added = values.get("perceiver"), values.get("added_parts", {})
    if isinstance(perceiver, dict) and isinstance(added, dict):
        check_declared(source, perceiver, added)


def write_config(config: FolderConfig, path: Path) -> None:
    """Write ``config.json``, without the locations of parts: the references have them."""
    values = asdict(config)
    if not config.added_parts:
        del values["added_parts"]  # so that a vidreason that does not know the key reads it
    del values["reasoner"]["language_model"]["name_or_path"]
    for part in ("video_encoder", "segmenter"):
        del values["perceiver"][part]["weights"]
    path.write_text(json.dumps(values, indent=1) + "\n")
