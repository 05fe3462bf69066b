"""Checkpoints on disk: one file, or a folder of torch's distributed format; whole or absent.

A file is what ``torch.save`` writes. A folder holds the tensors as each rank had them (``.distcp``
files and ``.metadata``), and everything else in ``meta.pt``. Both are written under another name,
flushed and renamed, so that a process killed at any instant leaves no torn one. Reading unpickles
without running anything: ``weights_only``, and the metadata by a list of torch's names.
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

from vidreason.finite_values import checkpoint_tensors, describe_nonfinite, nonfinite_names
from vidreason.perception.pickled_tensors import TorchFile
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
    META_FILE,
    METADATA_FILE,
    DigestingFile,
    check_undamaged,
    damaged,
    digested_names,
    folder_digests,
    is_deepspeed,
    is_folder,
    note_sound,
    write_sums,
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
"""Maps a parameter's name to a tensor that is sharded like it; None for a whole one."""


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
            # The digest is made of the bytes as they are written: the file is not read again.
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
        CheckpointWriteError: As :func:`write_file`; on all ranks if any of them fails.
    """
    check_finite(dict(checkpoint_tensors(checkpoint)), path)
    tensors, rest = _split(checkpoint)
    first, partial = is_rank_zero(), prepare_folder(path)
    digests: dict[str, str] = {}

    def write() -> None:
        with _alone_on_purpose():
            state_dict_saver.save(
                tensors, storage_writer=FileSystemWriter(partial), no_dist=not is_distributed()
            )
        if first:
            torch.save(rest, partial / META_FILE)
        # Each rank the files that it has just written, which are still in its node's memory.
        starts = (f"__{rank()}_", *(_META if first else ()))
        names = [name for name in digested_names(partial) if name.startswith(starts)]
        digests.update(folder_digests(partial, names))

    _on_all_ranks(path, write, acts=True)
    publish_folder(path, {n: text for one in of_each_rank(digests) for n, text in one.items()})


def prepare_folder(path: Path) -> Path:
    """Return the path at which all ranks write a folder for :func:`publish_folder`; collective.

    Raises:
        CheckpointWriteError: What a killed process left there cannot be removed.
    """
    _on_all_ranks(path, lambda: prepare(path), acts=is_rank_zero())
    return partial_path(path)


def publish_folder(path: Path, digests: Mapping[str, str] | None = None) -> None:
    """Rename a folder that all ranks have written at :func:`prepare_folder`'s path; collective.

    Args:
        path: Its final path.
        digests: Those of all its files; None lets rank 0 compute them.

    Raises:
        CheckpointWriteError: It cannot be flushed to the disk.
    """

    def seal() -> None:
        # Digests are the last file: a folder with them is complete.
        partial = partial_path(path)
        write_sums(partial, digests or folder_digests(partial, digested_names(partial)))
        publish(path)

    _on_all_ranks(path, seal, acts=is_rank_zero())
    note_sound(path)


def _on_all_ranks(path: Path, act: Callable[[], object], *, acts: bool) -> None:
    """Run ``act`` on the ranks with ``acts``; if one of them fails, raise on all."""
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
    # Renamed first: removing a folder takes many steps.
    leftover = partial_path(path)
    os.replace(path, leftover)
    remove(leftover)


def gathered(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Gather a checkpoint of shards on the CPU of rank 0; the others get nothing. Collective."""
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
        path: The checkpoint.
        like: Each rank reads only its shards of a folder's parameters and of the optimizer's
            tensors of their shape; collective then. A file's tensors are mapped, not read.

    Raises:
        ValueError: There is none, or it is damaged, or of DeepSpeed's form.
    """
    return _read(path, like, weights_alone=False)


def read_weights_and_record(path: Path) -> dict[str, Any]:
    """Read a checkpoint without the optimizer's tensors; see :func:`read_checkpoint`.

    Its ``state_dict`` is :func:`answering_weights`.
    """
    content = _read(path, None, weights_alone=True)
    return {**content, _WEIGHTS: answering_weights(content)}


def answering_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the trained weights by name: their average if the checkpoint has one."""
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
        # Whatever a damaged file raises becomes one error with its name.
        if path.is_file():
            content = _unpickled(path)
        else:
            content = _read_folder(path, like, weights_alone=weights_alone)
    except DAMAGE as error:
        raise damaged(path, cause(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get(_WEIGHTS), dict):
        raise ValueError(f"{str(path)!r} is no checkpoint of experiments.fit: no {_WEIGHTS} in it")
    return cast(dict[str, Any], content)


def read_without_tensors(path: Path) -> dict[str, Any]:
    """Read what a checkpoint of any form holds besides tensors; a file's tensors are mapped.

    Raises:
        ValueError: There is no such checkpoint, or it is damaged.
    """
    if not path.exists():
        raise ValueError(f"there is no checkpoint {str(path)!r}")
    check_undamaged(path)
    try:
        if is_deepspeed(path):
            content: Any = deepspeed_content(path)
        else:
            content = _unpickled(path if path.is_file() else path / META_FILE)
    except DAMAGE as error:
        raise damaged(path, cause(error)) from error
    return content if isinstance(content, dict) else {}


def deepspeed_content(folder: Path) -> dict[str, Any]:
    """Read what Lightning has put into a folder of DeepSpeed; tensors are stand-ins.

    Raises:
        ValueError: The file that it lies in is damaged or missing.
    """
    # DeepSpeed names its newest folder in a file; of several ranks' states the first has what
    # Lightning saved.
    tag = (folder / "latest").read_text().strip()
    states = TorchFile(str(min((folder / tag).glob("*mp_rank_00_model_states.pt"))))
    states.close()
    return cast(dict[str, Any], states.content)


def _unpickled(file: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Unpickle a file without running anything; its tensors are mapped, not read."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def _read_folder(path: Path, like: Like | None, *, weights_alone: bool) -> dict[str, Any]:
    rest = _unpickled(path / META_FILE)
    reader = _SafeReader(path)
    tensors: dict[str, Tensor] = {}
    for key, stored in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(stored, TensorStorageMetadata):
            raise ValueError(f"{key} is no tensor")
        kind, _, name = key.partition("/")
        if weights_alone and kind == _OPTIMIZERS:
            continue
        # Memory for each tensor, cut as the parameter is that will take it.
        dtype = stored.properties.dtype
        # A key is state_dict/NAME, average/NAME or optimizer_states/NUMBER/NAME/FIELD.
        pattern = like(name.split("/")[kind == _OPTIMIZERS]) if like else None
        if pattern is not None and pattern.shape == stored.size:
            tensors[key] = torch.empty_like(pattern, dtype=dtype)
        else:
            tensors[key] = torch.empty(stored.size, dtype=dtype)
    with _alone_on_purpose():
        alone = like is None or not is_distributed()
        state_dict_loader.load(tensors, storage_reader=reader, no_dist=alone)
    return _join(tensors, rest)


@contextmanager
def _alone_on_purpose() -> Iterator[None]:
    """Suppress torch's warning that there are no other processes."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "torch.distributed is (disabled|unavailable)", UserWarning
        )
        yield


def _split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors of parameters and optimizers by one flat key each, and everything else."""
    named = {kind: checkpoint[kind] for kind in (_WEIGHTS, AVERAGE) if kind in checkpoint}
    tensors = {f"{kind}/{n}": value for kind in named for n, value in named[kind].items()}
    # Tensors of the optimizers get keys of their own; numbers, such as a step, stay in the record.
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
    # The keys of _split, taken apart again.
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind != _OPTIMIZERS:
            checkpoint.setdefault(kind, {})[name] = value
        else:
            number, name, field = name.split("/")
            checkpoint[_OPTIMIZERS][int(number)]["state"][name][field] = value
    return checkpoint


class _SafeReader(FileSystemReader):
    """torch's reader; its pickled metadata may name only the classes that metadata consist of."""

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / METADATA_FILE).open("rb") as file:
            metadata = _MetadataUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise ValueError(f"{METADATA_FILE} holds {type(metadata).__name__}")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Finds only the classes of torch's checkpoint metadata, and dtypes."""

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
