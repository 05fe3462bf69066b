"""Files of BLIP-2 and of what was built on it: folders of transformers, official checkpoints.

An official checkpoint holds what was trained and the buffers of everything else; the rest is in a
folder or repository such as ``Salesforce/blip2-flan-t5-xl``, of which only the shards that hold
something needed are downloaded and opened.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers import Blip2Config, Blip2QFormerConfig, Blip2VisionConfig

from vidreason.atomic_file import atomic_file
from vidreason.baselines.blip2_parts import Names, assemble, stored_shapes
from vidreason.baselines.config import BaselineConfig
from vidreason.json_object import read_json_object
from vidreason.perception.model_folder import CONFIG_FILE, TOKENIZER_FILE, foreign_errors
from vidreason.perception.weights import (
    OpenWeights,
    Shape,
    check_keys,
    hash_file,
    local_folder,
    open_weights,
)
from vidreason.pretrained.frozen_parts import content_hash_of_file

_INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 2**25
_SMALL_FILES = ("*.json", "*.model")
_BUFFERS = (".position_ids", ".rotary_emb.inv_freq")
"""Ends of the keys of buffers, which follow from the sizes."""


@dataclass(frozen=True)
class Blip2Folder:
    """A folder of transformers' BLIP-2, looked at."""

    path: Path
    vision: Blip2VisionConfig
    queries: Blip2QFormerConfig
    num_queries: int
    text: Any
    """The configuration of its language model, a class of transformers."""


@dataclass(frozen=True)
class Source:
    """A file or folder that some tensors of a module come from."""

    path: str
    """For messages."""
    file: OpenWeights
    names: Names
    """Keys in the file of the module's tensors that come from it."""
    stored: Mapping[str, Shape]
    """Keys of the file that must all be wanted."""


def check_parts(config: BaselineConfig, parts: Sequence[str]) -> None:
    """Make sure that a configuration names the weights of exactly these parts.

    Raises:
        ValueError: It does not, or ``revision`` may mean more than one of them.
    """
    given = config.weights
    wrong = [f"missing {part!r}" for part in parts if not given.get(part)]
    wrong += [f"unknown {part!r}" for part in given if part not in parts]
    if wrong:
        raise ValueError(
            f"baselines.weights of {config.kind}: {'; '.join(wrong)}; it names {', '.join(parts)}"
        )
    on_the_hub = [part for part in parts if not Path(given[part]).exists()]
    if config.revision is not None and len(on_the_hub) != 1:
        raise ValueError(
            f"baselines.revision is {config.revision!r}, but {len(on_the_hub)} of the weights of "
            f"{config.kind} are repositories of the Hub ({', '.join(on_the_hub) or 'none'}); "
            "download all but one, and name their folders"
        )


def part_revision(config: BaselineConfig, part: str) -> str | None:
    """Return the revision of a part: the configured one where it is a repository of the Hub."""
    return None if Path(config.weights[part]).exists() else config.revision


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
    if not (folder / _INDEX).is_file():
        return ["model.safetensors"]
    shard_of = read_json_object(folder / _INDEX, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(shard_of, dict):
        raise ValueError(f"weights {str(folder / _INDEX)!r} are not an index of shards")
    needed = {str(name) for key, name in shard_of.items() if key.startswith(tuple(prefixes))}
    if any(Path(name).name != name for name in needed):
        raise ValueError(f"weights {str(folder / _INDEX)!r} name a file outside of their folder")
    return sorted(needed)


def check_layers(count: int | None, file: OpenWeights, where: str) -> None:
    """Make sure that a configured number of layers is no larger than what a file can hold.

    Raises:
        ValueError: It is.
    """
    if count is None or not 1 <= count <= len(file.shapes):
        raise ValueError(
            f"{where} is {count}, but the weights beside it are {len(file.shapes)} tensors; they "
            "are not those of this config.json"
        )


@contextmanager
def without_memory(path: Path) -> Iterator[None]:
    """Build modules on the meta device from the sizes of a folder.

    Raises:
        ValueError: The sizes do not go together.
    """
    with torch.device("meta"), foreign_errors(f"{path / CONFIG_FILE}"):
        yield


def without_buffers(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return what a checkpoint holds beside buffers that follow from the sizes."""
    return {key: shape for key, shape in shapes.items() if not key.endswith(_BUFFERS)}


def counted_layers(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Return how many layers have keys ``<prefix><number>.`` in a checkpoint."""
    numbers = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
    return len(numbers)


def stored_size(path: str, shapes: Mapping[str, Shape], key: str, dim: int) -> int:
    """Return the size of a tensor of a checkpoint along one dimension.

    Raises:
        ValueError: It has no such tensor, or that has fewer dimensions.
    """
    if key not in shapes:
        raise ValueError(f"weights {path!r}: missing {key}; they are of another model or a part")
    if len(shapes[key]) <= dim:
        raise ValueError(f"weights {path!r}: {key} has shape {shapes[key]}, too few dimensions")
    return shapes[key][dim]


def load_sources(
    module: nn.Module,
    sources: Sequence[Source],
    move: Callable[[str, Tensor], Tensor],
) -> None:
    """Give a module on the meta device its tensors, which several files hold together.

    All keys and shapes are compared before a tensor is read.

    Args:
        module: Its tensors are all named by the sources.
        sources: Where they are.
        move: From a key of the module and its tensor to the tensor in its dtype, on its device.

    Raises:
        ValueError: A file's keys or shapes are not those of the module, or it is damaged.
    """
    for source in sources:
        expected = stored_shapes(module, source.names)
        check_keys(source.path, type(module).__name__, expected, source.stored, {})
    state: dict[str, Tensor] = {}
    for source in sources:
        for key in source.names:
            state[key] = move(key, assemble(source.names, source.file.read, [key])[key])
    module.load_state_dict(state, assign=True)


def convert(
    path: str,
    target: Path,
    prefixes: Sequence[str],
    ignored: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write a checkpoint of ``torch.save`` as one safetensors file with the same keys.

    Args:
        path: The checkpoint.
        target: The new file.
        prefixes: Beginnings of the keys that belong into it.
        ignored: Beginnings of keys that are left out; so are buffers.
        metadata: Kept in the file, with the sha256 of the checkpoint.

    Raises:
        ValueError: The checkpoint is damaged, or holds other keys, or none of these.
    """
    with open_weights(path) as file:
        kept = [key for key in without_buffers(file.shapes) if not key.startswith(tuple(ignored))]
        others = [key for key in kept if not key.startswith(tuple(prefixes))]
        if others or not kept:
            shown = f"unexpected {others[0]}" if others else f"no key like {prefixes[0]}"
            raise ValueError(f"weights {path!r}: {shown}; they are of another model")
        tensors = {key: file.read(key).contiguous() for key in kept}
    with atomic_file(target) as output:
        output.write(save(tensors, {**metadata, "sha256": hash_file(path)}))


def is_converted(path: str) -> bool:
    """Return whether :func:`convert` wrote a safetensors file.

    Raises:
        ValueError: It is damaged.
    """
    with foreign_errors(f"weights {path!r}"), safe_open(path, framework="pt") as file:
        return "sha256" in (file.metadata() or {})


def module_dtype(key: str, prefixes: Sequence[str], dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a tensor: the configured one below ``prefixes``, else float32.

    Q-Formers, norms and projections are small, and float32 costs little there. T5's products before
    its residual sums overflow in float16, so transformers keeps ``wo`` in float32; so do we.
    """
    if not key.startswith(tuple(prefixes)) or (dtype == torch.float16 and ".wo." in key):
        return torch.float32
    return dtype
