"""Hashes of a reasoner folder's content, wherever it lies, without loading it."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vidreason.json_object import read_json_object
from vidreason.perception.perceiver import perceiver_fingerprint
from vidreason.pretrained.folder import existing_folder
from vidreason.pretrained.folder_config import CONFIG_FILE, read_config
from vidreason.pretrained.frozen_parts import content_hash_of_file

_CONTENT = (".safetensors", ".jinja")
_TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class ReasonerIdentity:
    """Hashes that tell one reasoner from another."""

    model: str
    """sha256 over configuration, trained weights, tokenizer and the content hashes of the frozen
    parts, as hex digits. How it decodes, and how long it was trained, is no part of it."""
    perceiver: str
    """:func:`vidreason.perception.perceiver.perceiver_fingerprint` of what it was trained with.
    """
    frames: dict[str, Any]
    """Which frames its perceiver looks at."""


def reasoner_identity(folder: Path) -> ReasonerIdentity:
    """Name the reasoner in ``folder``; its frozen parts need not be there.

    Raises:
        ValueError: The folder is incomplete, damaged, of another format version or no reasoner's.
    """
    folder = existing_folder(folder)
    config = read_config(folder)
    described = read_json_object(folder / CONFIG_FILE)
    # Where the frozen parts lie is no part of what they are.
    described["frozen_parts"] = {name: part.sha256 for name, part in config.frozen_parts.items()}
    described.pop("weights", None)  # the same hashes again
    described.pop("futures", None)
    described.pop("step", None)
    files = {
        path.relative_to(folder).as_posix(): content_hash_of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.suffix in _CONTENT or path.name == _TOKENIZER_FILE)
    }
    # In the perceiver's fingerprint a part stands for its content, not for its location.
    perceiver = replace(config.perceiver)
    for part in ("video_encoder", "segmenter"):
        if part in config.frozen_parts:
            setattr(perceiver, part, replace(getattr(perceiver, part), weights=part))
    return ReasonerIdentity(
        model=hashlib.sha256(json.dumps([described, files], sort_keys=True).encode()).hexdigest(),
        perceiver=perceiver_fingerprint(perceiver, lambda part: config.frozen_parts[part].sha256),
        frames=asdict(config.perceiver.sampling),
    )
