"""Checkpoints on the disk: one file, or a folder of torch's distributed format; whole or absent.

A file is what ``torch.save`` writes. A folder holds the tensors as each rank had them (``.distcp``
files and ``.metadata``), and all else in ``meta.pt``. Both are written under another name, flushed
and renamed, so that a process killed at any instant leaves no torn one. What is read is unpickled
without running anything: ``weights_only``, and the metadata by a list of torch's own names.
"""

import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from typing_extensions import override

from vidreason.finite_values import (
    checkpoint_tensors,
    describe_nonfinite,
    nonfinite_names,
)
from vidreason.training.atomic_checkpoint import (
    CheckpointWriteError,
    cause,
    failure_of,
    partial_path,
    prepare,
    publish,
    remove,
    write_error,
)
from vidreason.training.checkpoint_damage import (
    DAMAGE,
    check_undamaged,
    damaged,
    is_old,
    load_file,
    load_meta,
    note_sound,
)
from vidreason.training.checkpoint_digests import (
    DigestingFile,
    digested_names,
    folder_digests,
    write_sums,
)
from vidreason.training.checkpoint_forms import (
    META_FILE,
    METADATA_FILE,
    is_deepspeed,
    is_folder,
)
from vidreason.training.sharded_values import (
    is_distributed,
    is_rank_zero,
    of_each_rank,
    rank,
    whole,
)

AVERAGE = "average"
"""Key of the averaged weights in a checkpoint, under the names of those in training."""
_WEIGHTS, _OPTIMIZERS = "state_dict", "optimizer_states"
_META = (META_FILE, METADATA_FILE)

Like = Callable[[str], Tensor | None]
"""From a parameter's name to a tensor that is cut like it; None for a whole one."""


def write_file(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint of whole tensors as one file; called on one rank.

    Raises:
        CheckpointWriteError: The disk is full, or cannot be written to; or a weight, an average or
            the optimizer's state is not finite.
    """
    if names := nonfinite_names(dict(checkpoint_tensors(checkpoint))):
        raise _not_finite(path, names)

    def write() -> None:
        prepare(path)
        with partial_path(path).open("wb") as file:
            digesting = DigestingFile(file)
            torch.save(dict(checkpoint), digesting)  # type: ignore[arg-type] # it only writes
            digesting.seal()
        publish(path)

    failure = failure_of(write)
    if failure is not None:
        raise write_error(path, failure)
    note_sound(path)


def write_folder(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint as a folder, each rank its shards; collective.

    Raises:
        CheckpointWriteError: As :func:`write_file`; on all ranks, whosever disk or shard it is.
    """
    check_finite(dict(checkpoint_tensors(checkpoint)), path)
    tensors, rest = _split(checkpoint)
    first, partial = is_rank_zero(), partial_path(path)
    digests: dict[str, str] = {}

    def write() -> None:
        with _alone_on_purpose():
            state_dict_saver.save(
                tensors, storage_writer=FileSystemWriter(partial), no_dist=not is_distributed()
            )
        if first:
            torch.save(rest, partial / META_FILE)
        # Each rank the files that it has just written, which are still in its node's memory.
        own = f"__{rank()}_"
        digests.update(
            folder_digests(
                partial,
                [n for n in digested_names(partial) if n.startswith(own) or (first and n in _META)],
            )
        )

    def seal() -> None:
        write_sums(partial, all_digests)
        publish(path)

    _on_all_ranks(path, lambda: prepare(path), acts=first)
    _on_all_ranks(path, write, acts=True)
    all_digests = {n: text for one in of_each_rank(digests) for n, text in one.items()}
    _on_all_ranks(path, seal, acts=first)
    note_sound(path)


def place_to_write(path: Path) -> Path:
    """The path at which all ranks write a folder for :func:`publish_folder`; collective.

    Raises:
        CheckpointWriteError: What a killed process left there cannot be removed.
    """
    _on_all_ranks(path, lambda: prepare(path), acts=is_rank_zero())
    return partial_path(path)


def publish_folder(path: Path) -> None:
    """Give its name to a folder that all ranks have written under the one before; collective.

    Raises:
        CheckpointWriteError: It cannot be flushed to the disk.
    """

    def seal() -> None:
        partial = partial_path(path)
        write_sums(partial, folder_digests(partial, digested_names(partial)))
        publish(path)

    _on_all_ranks(path, seal, acts=is_rank_zero())
    note_sound(path)


def _on_all_ranks(path: Path, act: Callable[[], object], *, acts: bool) -> None:
    """Let the ranks that take part act; if one of them fails, raise on all of them."""
    failures = [text for text in of_each_rank(failure_of(act) if acts else None) if text]
    if failures:
        raise write_error(path, failures[0])


def check_finite(values: Mapping[str, Tensor], path: Path) -> None:
    """Refuse to write what is not finite; collective, each rank gives its own shards.

    Raises:
        CheckpointWriteError: A value is infinite or not a number, on any rank.
    """
    names = sorted({name for some in of_each_rank(nonfinite_names(values)) for name in some})
    if names:
        raise _not_finite(path, names)


def _not_finite(path: Path, names: list[str]) -> CheckpointWriteError:
    return CheckpointWriteError(
        f"the checkpoint {str(path)!r} is not written: {describe_nonfinite(names)}; those before "
        "it are as they were. Lower optimizer.learning_rate, or let guard leave out the steps that "
        "do it (guard.skip_nonfinite, guard.spike_deviations)"
    )


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; a process killed in here leaves no part of it under its name."""
    leftover = partial_path(path)
    os.replace(path, leftover)
    remove(leftover)


def gathered(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint of shards as one of whole tensors on the CPU.

    Collective; rank 0 alone gets it.
    """
    tensors, rest = _split(checkpoint)
    values = {}
    for key, value in tensors.items():
        value = whole(value)
        if is_rank_zero():
            values[key] = value.cpu()
    return _join(values, rest) if is_rank_zero() else {}


def read_checkpoint(path: Path, like: Like | None = None) -> dict[str, Any]:
    """Read a checkpoint, a file or a folder.

    Args:
        path: Where.
        like: Of a folder, each rank reads only its shards of parameters and of what the optimizer
            has of their shape; collective then. A file's tensors are mapped, not read.

    Raises:
        ValueError: There is none, or it is damaged, or of DeepSpeed's form.
    """
    return _read(path, like, weights_alone=False)


def read_weights_and_record(path: Path) -> dict[str, Any]:
    """Read a checkpoint without the optimizer's tensors; see :func:`read_checkpoint`.

    Its ``state_dict`` is what is to answer; see :func:`answering_weights`.
    """
    content = _read(path, None, weights_alone=True)
    return {**content, _WEIGHTS: answering_weights(content)}


def answering_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The average of what was trained if the checkpoint has one, else what was trained; by name."""
    weights: dict[str, Tensor] = checkpoint[_WEIGHTS]
    average: Mapping[str, Tensor] = checkpoint.get(AVERAGE, weights)
    return {name: average[name].to(value.dtype) for name, value in weights.items()}


def _read(path: Path, like: Like | None, *, weights_alone: bool) -> dict[str, Any]:
    if is_deepspeed(path):
        raise ValueError(
            f"{str(path)!r} is a folder of DeepSpeed, which only its own strategy reads; for "
            f"another use: python -m experiments.checkpoint consolidate {path} OUT"
        )
    if not path.exists():
        raise ValueError(f"there is no checkpoint {str(path)!r}")
    if path.is_dir() and not is_folder(path):
        raise ValueError(
            f"{str(path)!r} is no checkpoint: a folder needs {METADATA_FILE} and {META_FILE}"
        )
    check_undamaged(path)
    try:
        if path.is_file():
            content = load_file(path)
        else:
            content = _read_folder(path, like, weights_alone=weights_alone)
    except DAMAGE as error:
        raise damaged(path, cause(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get(_WEIGHTS), dict):
        raise ValueError(f"{str(path)!r} is no checkpoint of experiments.fit: no {_WEIGHTS} in it")
    if is_old(content) and (names := nonfinite_names(dict(checkpoint_tensors(content)))):
        raise damaged(path, describe_nonfinite(names))
    return cast(dict[str, Any], content)


def _read_folder(path: Path, like: Like | None, *, weights_alone: bool) -> dict[str, Any]:
    rest = load_meta(path)
    reader = _SafeReader(path)
    places: dict[str, Tensor] = {}
    for key, stored in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(stored, TensorStorageMetadata):
            raise ValueError(f"{key} is no tensor")
        kind, _, name = key.partition("/")
        if weights_alone and kind == _OPTIMIZERS:
            continue
        dtype = stored.properties.dtype
        pattern = like(name.split("/")[kind == _OPTIMIZERS]) if like else None
        if pattern is not None and pattern.shape == stored.size:
            places[key] = torch.empty_like(pattern, dtype=dtype)
        else:
            places[key] = torch.empty(stored.size, dtype=dtype)
    with _alone_on_purpose():
        alone = like is None or not is_distributed()
        state_dict_loader.load(places, storage_reader=reader, no_dist=alone)
    return _join(places, rest)


@contextmanager
def _alone_on_purpose() -> Iterator[None]:
    """Without torch's warning that there are no other processes."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "torch.distributed is (disabled|unavailable)", UserWarning
        )
        yield


def _split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of parameters and optimizers by one flat key each, and everything else."""
    named = {kind: checkpoint[kind] for kind in (_WEIGHTS, AVERAGE) if kind in checkpoint}
    tensors = {f"{kind}/{n}": value for kind in named for n, value in named[kind].items()}
    optimizers = []
    for number, state in enumerate(checkpoint.get(_OPTIMIZERS, [])):
        others: dict[str, dict[str, Any]] = {}
        for name, fields in state["state"].items():
            others[name] = {}
            for field, value in fields.items():
                if isinstance(value, Tensor):
                    tensors[f"{_OPTIMIZERS}/{number}/{name}/{field}"] = value
                else:
                    others[name][field] = value
        optimizers.append({**state, "state": others})
    rest = {key: value for key, value in checkpoint.items() if key not in named}
    return tensors, rest | ({_OPTIMIZERS: optimizers} if _OPTIMIZERS in checkpoint else {})


def _join(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = {_WEIGHTS: {}, **rest}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind != _OPTIMIZERS:
            checkpoint.setdefault(kind, {})[name] = value
        else:
            number, name, field = name.split("/")
            checkpoint[_OPTIMIZERS][int(number)]["state"][name][field] = value
    return checkpoint


class _SafeReader(FileSystemReader):
    """torch's reader, but the pickled metadata can name nothing but what metadata consist of."""

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / METADATA_FILE).open("rb") as file:
            metadata = _MetadataUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise ValueError(f"{METADATA_FILE} holds {type(metadata).__name__}")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Finds only the classes of torch's metadata of checkpoints, and number types."""

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _METADATA_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{METADATA_FILE} names {module}.{name}")


_METADATA_NAMES = {
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            *("Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata"),
            *("TensorStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING"),
        )
    ),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    *(("torch", name) for name in ("float64", "float32", "bfloat16", "float16", "int64", "bool")),
    ("pathlib", "PosixPath"),
}
