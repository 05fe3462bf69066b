"""Folders of BLIP-2 in transformers' layout, on which Video-LLaMA and SeViLA were built.

Of a folder or repository such as ``Salesforce/blip2-flan-t5-xl``, only the shards that hold
something needed are downloaded and opened.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

from vidreason.json_object import read_json_object
from vidreason.perception.model_folder import CONFIG_FILE, TOKENIZER_FILE, foreign_errors
from vidreason.perception.weight_files import FORMS, weight_files
from vidreason.perception.weights import local_folder
from vidreason.pretrained.frozen_parts import content_hash_of_file

_SMALL_FILES = ("*.json", "*.model")


@dataclass(frozen=True)
class Blip2Folder:
    """A folder of transformers' BLIP-2, looked at."""

    path: Path
    vision: Blip2VisionConfig
    queries: Blip2QFormerConfig
    num_queries: int
    text: Any
    """The configuration of its language model, a class of transformers."""


def blip2_folder(name: str, revision: str | None, prefixes: Sequence[str]) -> Blip2Folder:
    """Find a folder of transformers' BLIP-2, or download what is needed of a repository.

    Args:
        name: Folder or repository.
        revision: Of the repository.
        prefixes: Beginnings of the keys that are needed.

    Raises:
        ValueError: There is none, or it holds another model.
    """
    path = local_folder(name, revision, _SMALL_FILES)
    # Of a repository, first the small files; the index among them names the shards that are needed.
    if not Path(name).is_dir():
        shards = _needed_shards(path, prefixes)
        path = local_folder(name, revision, (*_SMALL_FILES, *shards))
    where = f"weights.blip2 {str(path)!r}"
    fields = read_json_object(path / CONFIG_FILE)
    if fields.get("model_type") != "blip-2":
        raise ValueError(
            f"{where}: config.json names the model type {str(fields.get('model_type'))[:40]!r}; "
            "expected 'blip-2', as in Salesforce/blip2-flan-t5-xl"
        )
    config: Any
    with foreign_errors(f"{where}: {CONFIG_FILE}"):
        config = Blip2Config.from_dict(fields)
    if not isinstance(config.vision_config.image_size, int):
        raise ValueError(
            f"{where}: {CONFIG_FILE}: vision_config.image_size is "
            f"{str(config.vision_config.image_size)[:40]}; expected one number, of a square"
        )
    for name in ("vision_config", "qformer_config"):
        # transformers takes a number below 1, and fails when the model is run.
        if (heads := getattr(config, name).num_attention_heads) < 1:
            raise ValueError(
                f"{where}: {CONFIG_FILE}: {name}.num_attention_heads is {heads}; expected 1 or more"
            )
    for part in (config.vision_config, config.qformer_config, config.text_config):
        part._attn_implementation = None  # a folder may name code on the Hub
    return Blip2Folder(
        path,
        config.vision_config,
        config.qformer_config,
        int(config.num_query_tokens),
        config.text_config,
    )


def blip2_hash(folder: Blip2Folder, prefixes: Sequence[str]) -> str:
    """Return a content hash of what is used of a folder: its needed shards, sizes and tokenizer.

    Raises:
        ValueError: A shard is missing.
    """
    shards = _needed_shards(folder.path, prefixes)
    small = [name for name in (CONFIG_FILE, TOKENIZER_FILE) if (folder.path / name).is_file()]
    missing = [name for name in shards if not (folder.path / name).is_file()]
    if missing:
        raise ValueError(f"weights.blip2 {str(folder.path)!r}: {missing[0]} is missing")
    hashes = {name: content_hash_of_file(folder.path / name) for name in (*small, *shards)}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _needed_shards(folder: Path, prefixes: Sequence[str]) -> list[str]:
    """Names of the files that hold something needed, as ``open_weights`` finds them."""
    files = weight_files(folder, prefixes)
    # Without an index the model is in one file, which may not be downloaded yet.
    return files.names if files.names or files.index else [FORMS[0]]
