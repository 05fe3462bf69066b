"""The record of a run in its checkpoints, and the optimizer's state by parameter names.

A checkpoint is a dictionary of plain values and tensors: Lightning's entries (``loops``,
``callbacks``, ``lr_schedulers``, the data module's position, ...), and

* ``state_dict``: the parameters that train, and no others;
* ``optimizer_states``: torch's form, but by names instead of numbers, which depend on how a
  strategy orders and cuts parameters;
* ``vidreason``: the record that is made here.

It is the same whatever the strategy and the number of processes that wrote it.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from vidreason.training.sharded_values import from_rank_zero, num_ranks, of_each_rank, shard_like

RECORD = "vidreason"
"""Key of the record in a checkpoint."""
FORMAT_VERSION = 3
_ENTRIES = ("stage", "config", "frozen", "trainable", "world_size", "rng")


class RunIdentity:
    """Identity of the run that a checkpoint is of: its configuration and its frozen parts.

    Args:
        config: The configuration as plain values.
        hash_frozen: Gives the content hashes of the frozen parts by their names
            (``language_model``, ``video_encoder``, ``segmenter``). Reading 8 billion weights takes
            a while: it is called at most once, on rank 0.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        hash_frozen: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.config = dict(config or {})
        self._hash_frozen = hash_frozen
        self._frozen: dict[str, str] | None = None

    def frozen(self) -> dict[str, str]:
        """Return the content hashes of the frozen parts; collective.

        Raises:
            ValueError: One is missing where the configuration says.
        """
        if self._frozen is None:
            self._frozen = dict(from_rank_zero(self._hash_frozen))
        return self._frozen


class Recorded(Protocol):
    """Attributes of a LightningModule that go into the record."""

    identity: RunIdentity
    trainable: frozenset[str]

    @property
    def stage(self) -> str:
        """``alignment`` or ``instruction``."""


def make_record(module: Recorded) -> dict[str, Any]:
    """Make the record of a checkpoint; collective."""
    return {
        "format_version": FORMAT_VERSION,
        "stage": str(module.stage),
        "config": module.identity.config,
        "frozen": module.identity.frozen(),
        "trainable": sorted(module.trainable),
        "world_size": num_ranks(),
        "rng": of_each_rank(random_state()),
    }


def read_record(checkpoint: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the record of a checkpoint.

    Raises:
        ValueError: It has none, or one of another version; the message says what to do.
    """
    record = checkpoint.get(RECORD)
    if not isinstance(record, dict) or "format_version" not in record:
        raise ValueError(
            f"{source} is no checkpoint of experiments.fit: it has no record of a format version"
        )
    version = record["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{source} has format version {version!r}; this program reads version "
            f"{FORMAT_VERSION}: use the version of vidreason that has written it"
        )
    missing = [name for name in _ENTRIES if name not in record]
    if missing:
        raise ValueError(f"{source} is damaged: its record has no {', '.join(missing)}")
    return dict(record)


def check_frozen(recorded: Mapping[str, str], present: Mapping[str, str], source: str) -> None:
    """Make sure that training continues with the frozen parts that it began with.

    Parts that only one side has are ignored: a stage may use none, and one that is drawn from the
    seed has no hash.

    Raises:
        ValueError: One has another content; the message names both hashes.
    """
    for part, expected in recorded.items():
        configured = present.get(part, expected)
        if configured != expected:
            key = {
                "language_model": "reasoner.language_model.name_or_path",
                "video_encoder": "perceiver.video_encoder.weights",
                "segmenter": "perceiver.segmenter.weights",
            }[part]
            raise ValueError(
                f"{source} was trained with another {part}: it has the content hash {expected}, "
                f"the configured one {configured}; set {key} to the one that it was trained with"
            )


def random_state() -> dict[str, Any]:
    """Return the state of this process' random number generators, as plain values and tensors."""
    # Plain numbers, since checkpoints are read without any of numpy's classes.
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (str(name), list(map(int, keys)), int(position), int(has_gauss), float(gauss)),
        "python": random.getstate(),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore a state of :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    # A run may go on with a GPU or without.
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def name_optimizer_state(optimizer: Optimizer, module: nn.Module) -> None:
    """Let ``optimizer.state_dict()`` and ``load_state_dict`` key parameters by their names.

    So a state that one strategy has saved loads under another. Loaded values are sharded like their
    parameter.

    Args:
        optimizer: Over parameters of ``module``.
        module: A state's names are those of its ``named_parameters()``.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}

    def is_of_module(optimizer: Optimizer) -> bool:
        # DeepSpeed puts flat tensors of its own there, and saves and loads them itself.
        groups = optimizer.param_groups
        return all(id(parameter) in names for group in groups for parameter in group["params"])

    def by_names(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
        if not is_of_module(optimizer):
            return None
        numbered = [
            names[id(parameter)]
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]
        return {
            **state,
            "state": {numbered[number]: value for number, value in state["state"].items()},
            "param_groups": [
                {**group, "params": [numbered[number] for number in group["params"]]}
                for group in state["param_groups"]
            ],
        }

    def by_numbers(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
        return _numbered(optimizer, state, names) if is_of_module(optimizer) else None

    optimizer.register_state_dict_post_hook(by_names)
    optimizer.register_load_state_dict_pre_hook(by_numbers)


def _numbered(
    optimizer: Optimizer, state: Mapping[str, Any], names: Mapping[int, str]
) -> dict[str, Any]:
    """Return a state by names in torch's form by numbers, in the order of ``optimizer``."""
    # Groups are recognised by their parameters, for their order may differ.
    saved = {frozenset(group["params"]): group for group in state["param_groups"]}
    numbered: dict[int, Any] = {}
    groups, number = [], 0
    for group in optimizer.param_groups:
        in_group = [names[id(parameter)] for parameter in group["params"]]
        if frozenset(in_group) not in saved:
            raise ValueError(
                "the checkpoint's optimizer has other groups of parameters than the configured "
                f"one: none of its {len(saved)} groups holds exactly the {len(in_group)} of "
                f"{in_group[0]!r}; use the optimizer and freeze_schedule that it was made with"
            )
        numbers = list(range(number, number + len(in_group)))
        # Settings of the checkpoint, and of the run where it has none.
        groups.append({**group, **saved[frozenset(in_group)], "params": numbers})
        for name, parameter in zip(in_group, group["params"], strict=True):
            # A parameter that never had a gradient has no state.
            if name in state["state"]:
                numbered[number] = {
                    key: shard_like(value, parameter) if isinstance(value, torch.Tensor) else value
                    for key, value in state["state"][name].items()
                }
            number += 1
    return {**state, "state": numbered, "param_groups": groups}
