"""Weights of the paper's rivals: which parts a configuration names, released files, conversion.

An official checkpoint holds what was trained and the buffers of everything else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vidreason.atomic_file import atomic_file
from vidreason.baselines.blip2_parts import Names, assemble, stored_shapes
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.system import Fidelity
from vidreason.finite_values import as_weights, check_weights
from vidreason.perception.model_folder import CONFIG_FILE, foreign_errors
from vidreason.perception.weights import OpenWeights, Shape, check_keys, hash_file, open_weights

_BUFFERS = (".position_ids", ".rotary_emb.inv_freq")
"""Ends of the keys of buffers, which follow from the sizes."""


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


def check_stored_layers(path: str, shapes: Mapping[str, Shape], prefix: str, count: int) -> None:
    """Make sure that the layers with keys ``<prefix><number>.`` in a checkpoint are all there.

    Raises:
        ValueError: They are not the numbers from 0 to ``count - 1``.
    """
    numbers = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
    expected = [str(number) for number in range(count)]
    if numbers != set(expected):
        raise ValueError(
            f"weights {path!r}: of {prefix.rstrip('.')} they have the layers "
            f"{', '.join(sorted(numbers)[:8]) or 'none'}; expected layers {', '.join(expected)}; "
            "the file is incomplete or of another model: copy or download it again"
        )


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
    device: torch.device,
    dtype_of: Callable[[str], torch.dtype],
) -> None:
    """Give a module on the meta device its tensors, which several files hold together.

    All keys and shapes are compared before a tensor is read.

    Args:
        module: Its tensors are all named by the sources.
        sources: Where they are.
        device: Where the tensors go.
        dtype_of: From a key of the module to the dtype of its tensor.

    Raises:
        ValueError: A file's keys or shapes are not those of the module, its numbers are no weights,
            or it is damaged.
    """
    for source in sources:
        expected = stored_shapes(module, source.names)
        check_keys(source.path, type(module).__name__, expected, source.stored, {})
    state: dict[str, Tensor] = {}
    for source in sources:
        for key, stored in source.names.items():
            # One tensor at a time, so that the file's copy of each is gone before the next is read.
            tensor = assemble(source.names, source.file.read, [key])[key]
            tensor = as_weights(source.path, " and ".join(stored), tensor, dtype_of(key))
            state[key] = tensor.to(device)
    # Assigned: what is on the meta device cannot be copied into.
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
        ValueError: The checkpoint is damaged, or holds other keys, or none of these, or numbers
            that are no weights.
    """
    with open_weights(path) as file:
        kept = [key for key in without_buffers(file.shapes) if not key.startswith(tuple(ignored))]
        others = [key for key in kept if not key.startswith(tuple(prefixes))]
        if others or not kept:
            shown = f"unexpected {others[0]}" if others else f"no key like {prefixes[0]}"
            raise ValueError(f"weights {path!r}: {shown}; they are of another model")
        tensors = {key: file.read(key).contiguous() for key in kept}
    for key, tensor in tensors.items():
        check_weights(path, key, tensor)
    with atomic_file(target) as output:
        # The checkpoint's hash marks the file as converted, which checkpoint_fidelity looks for.
        output.write(save(tensors, {**metadata, "sha256": hash_file(path)}))


def checkpoint_fidelity(config: BaselineConfig) -> Fidelity:
    """Return how near ``weights.checkpoint`` is to the released one.

    A safetensors file is of a training of ours, unless :func:`convert` wrote it.

    Raises:
        ValueError: The file is damaged.
    """
    path = config.weights.get("checkpoint", "")
    if not (path.endswith(".safetensors") and Path(path).is_file()):
        return "official-weights"
    with foreign_errors(f"weights {path!r}"), safe_open(path, framework="pt") as file:
        is_converted = "sha256" in (file.metadata() or {})
    return "official-weights" if is_converted else "re-trained"


def module_dtype(key: str, prefixes: Sequence[str], dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a tensor: the configured one below ``prefixes``, else float32.

    Q-Formers, norms and projections are small, and float32 costs little there. T5's products before
    its residual sums overflow in float16, so transformers keeps ``wo`` in float32; so do we.
    """
    if not key.startswith(tuple(prefixes)) or (dtype == torch.float16 and ".wo." in key):
        return torch.float32
    return dtype
