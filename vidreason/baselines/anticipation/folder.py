"""Folders of trained networks: ``config.json`` with sizes and labels, ``model.safetensors``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import nn

from vidreason.atomic_file import atomic_file, write_json_atomically
from vidreason.baselines.anticipation.anticipator import Anticipator, build_network
from vidreason.baselines.anticipation.config import AnticipationConfig, RecogniserConfig, settings
from vidreason.config import config_from_values
from vidreason.json_object import read_json_object
from vidreason.perception.weights import hash_file, load_weights

NETWORK_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_ANTICIPATOR, _RECOGNISER = "anticipator", "recogniser"

T = TypeVar("T", AnticipationConfig, RecogniserConfig)


@dataclass(frozen=True, kw_only=True)
class NetworkFolder:
    """Description of a folder, as ``config.json`` holds it."""

    config: AnticipationConfig | RecogniserConfig
    labels: tuple[str, ...]
    silent: tuple[str, ...] = ()
    """Labels that are no event."""
    trained_on: tuple[str, ...] = ()
    """Corpora that were learnt from, each with its split."""
    encoder_sha256: str = ""
    """Hash of the encoder's weights that a recogniser was trained on; empty where these are
    random."""


def save_network(folder: Path, description: NetworkFolder, network: nn.Module) -> None:
    """Write a network; the description, which comes last, has the hash of the weights.

    A folder that was interrupted while it was replaced is refused, not read as a mixture.
    """
    tensors = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    with atomic_file(folder / WEIGHTS_FILE) as file:
        file.write(save(tensors))
    values = {
        "kind": _kind(type(description.config)),
        "config": settings(description.config),
        "labels": list(description.labels),
        "silent": list(description.silent),
        "trained_on": list(description.trained_on),
        "encoder_sha256": description.encoder_sha256,
        "weights_sha256": hash_file(str(folder / WEIGHTS_FILE)),
    }
    write_json_atomically(folder / NETWORK_FILE, values)


def read_description(folder: str | Path, schema: type[T]) -> NetworkFolder:
    """Read the description of a folder, and nothing else.

    Raises:
        ValueError: There is none, it is damaged, or it is that of another network.
    """
    path = Path(folder) / NETWORK_FILE
    if not path.is_file():
        raise ValueError(
            f"there is no {NETWORK_FILE} in {str(folder)!r}: name a folder that "
            "python -m experiments.train_baseline has written"
        )
    values = read_json_object(path)
    if values.get("kind") != _kind(schema):
        raise ValueError(f"{path}: kind is {values.get('kind')!r}, expected {_kind(schema)!r}")
    if not isinstance(values.get("config"), dict):
        raise ValueError(f"{path} is damaged: 'config' is no object; copy the folder again")
    labels = _texts(values, "labels", path)
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"{path} is damaged: 'labels' are none, or one is there twice")
    return NetworkFolder(
        config=config_from_values(schema, values["config"], str(path)),
        labels=labels,
        silent=_texts(values, "silent", path),
        trained_on=_texts(values, "trained_on", path),
        encoder_sha256=str(values.get("encoder_sha256", "")),
    )


def load_into(folder: str | Path, network: nn.Module, device: torch.device) -> nn.Module:
    """Give ``network`` the weights of a folder; return it in eval mode without gradients.

    Raises:
        ValueError: They are missing, damaged, or not those that the description was written with.
    """
    path = Path(folder) / WEIGHTS_FILE
    load_weights(network, str(path), device=device)
    # After loading, whose messages tell more of what is wrong.
    expected = read_json_object(Path(folder) / NETWORK_FILE).get("weights_sha256")
    if hash_file(str(path)) != expected:
        raise ValueError(
            f"{path} is not the file that {NETWORK_FILE} beside it was written with: the folder "
            "was copied or written in part; copy it again, or run the training again"
        )
    return network.requires_grad_(False).eval()


def load_anticipator(folder: str | Path, device: torch.device) -> Anticipator:
    """Load a trained network with its labels.

    Raises:
        ValueError: As :func:`read_description` and :func:`load_into`.
    """
    description = read_description(folder, AnticipationConfig)
    assert isinstance(description.config, AnticipationConfig)
    with torch.device("meta"):
        network = build_network(description.config, len(description.labels))
    return Anticipator(
        load_into(folder, network, device),
        description.config,
        description.labels,
        description.silent,
    )


def _kind(schema: type) -> str:
    return _ANTICIPATOR if schema is AnticipationConfig else _RECOGNISER


def _texts(values: Mapping[str, Any], name: str, path: Path) -> tuple[str, ...]:
    texts = values.get(name)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} is damaged: {name!r} is no list of texts; copy the folder again")
    return tuple(texts)
