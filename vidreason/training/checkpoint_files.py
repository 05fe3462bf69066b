"""Checkpoints on the disk: one file, or a folder of torch's distributed format; whole or absent.

A file is what ``torch.save`` writes. A folder holds the tensors as each rank had them (``.distcp``
files and ``.metadata``), and all else in ``meta.pt``. Both are written under another name, flushed
and renamed, so that a process killed at any instant leaves no torn one. What is read is unpickled
without running anything: ``weights_only``, and the metadata by a list of torch's own names.
"""

import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from typing_extensions import override

from vidreason.training.sharded_values import (
    is_distributed,
    is_rank_zero,
    of_each_rank,
    whole,
)

PARTIAL = ".partial"
"""How the names of checkpoints end that are being written, or that a killed process left so."""
META_FILE = "meta.pt"
METADATA_FILE = ".metadata"
AVERAGE = "average"
"""Key of the averaged weights in a checkpoint, under the names of those in training."""
_WEIGHTS, _OPTIMIZERS = "state_dict", "optimizer_states"
_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, OSError, RuntimeError, EOFError),
    *(ValueError, KeyError, AttributeError, CheckpointException),
)

Like = Callable[[str], Tensor | None]
"""From a parameter's name to a tensor that is cut like it; None for a whole one."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the former ones are as they were."""


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a checkpoint of torch's distributed format."""
    return (path / METADATA_FILE).is_file() and (path / META_FILE).is_file()


def is_deepspeed(path: Path) -> bool:
    """Whether ``path`` is a folder that DeepSpeed has written."""
    return (path / "latest").is_file()


def is_complete(path: Path) -> bool:
    """Whether there is a whole checkpoint of any form at ``path``."""
    if path.is_dir():
        return is_folder(path) or is_deepspeed(path)
    return path.is_file() and zipfile.is_zipfile(path)


def write_file(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint of whole tensors as one file; called on one rank.

    Raises:
        CheckpointWriteError: The disk is full, or cannot be written to.
    """

    def write() -> None:
        _prepare(path)
        with _partial(path).open("wb") as file:
            torch.save(dict(checkpoint), file)
        _publish(path)

    failure = _failure_of(write)
    if failure is not None:
        raise _write_error(path, failure)


def write_folder(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint as a folder, each rank its shards; collective.

    Raises:
        CheckpointWriteError: As :func:`write_file`; on all ranks, whosever disk it is.
    """
    tensors, rest = _split(checkpoint)
    first = is_rank_zero()

    def write() -> None:
        writer = FileSystemWriter(_partial(path))
        with _alone_on_purpose():
            state_dict_saver.save(tensors, storage_writer=writer, no_dist=not is_distributed())
        if first:
            torch.save(rest, _partial(path) / META_FILE)

    for act, acts in (
        (lambda: _prepare(path), first),
        (write, True),
        (lambda: _publish(path), first),
    ):
        failures = [text for text in of_each_rank(_failure_of(act) if acts else None) if text]
        if failures:
            raise _write_error(path, failures[0])


def place_to_write(path: Path) -> Path:
    """Where all ranks write a folder for :func:`publish_folder`; collective.

    Raises:
        CheckpointWriteError: What a killed process left there cannot be removed.
    """
    failure = of_each_rank(_failure_of(lambda: _prepare(path)) if is_rank_zero() else None)[0]
    if failure:
        raise _write_error(path, failure)
    return _partial(path)


def publish_folder(path: Path) -> None:
    """Give its name to a folder that all ranks have written under the one before; collective.

    Raises:
        CheckpointWriteError: It cannot be flushed to the disk.
    """
    failure = of_each_rank(_failure_of(lambda: _publish(path)) if is_rank_zero() else None)[0]
    if failure:
        raise _write_error(path, failure)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; a process killed in here leaves no part of it under its name."""
    leftover = _partial(path)
    os.replace(path, leftover)
    _remove(leftover)


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
    try:
        if path.is_file():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        else:
            content = _read_folder(path, like, weights_alone=weights_alone)
    except _DAMAGE as error:
        raise ValueError(
            f"the checkpoint {str(path)!r} cannot be read: it is damaged, or not one of "
            f"experiments.fit ({_cause(error)})"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get(_WEIGHTS), dict):
        raise ValueError(f"{str(path)!r} is no checkpoint of experiments.fit: no {_WEIGHTS} in it")
    return cast(dict[str, Any], content)


def _read_folder(path: Path, like: Like | None, *, weights_alone: bool) -> dict[str, Any]:
    rest = torch.load(path / META_FILE, map_location="cpu", weights_only=True)
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


def _partial(target: Path) -> Path:
    return target.with_name(target.name + PARTIAL)


def _prepare(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f"*{PARTIAL}"):  # of a process that was killed in a save
        _remove(leftover)


def _flush(place: Path) -> None:
    """Put a file, or a folder's files, on the disk before they get their name."""
    files = [place] if place.is_file() else [*place.rglob("*"), place]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(target: Path) -> None:
    partial = _partial(target)
    _flush(partial)
    former = target.with_name(f"{target.name}.former{PARTIAL}")
    if target.is_dir() or (partial.is_dir() and target.exists()):
        os.replace(target, former)  # a folder cannot be replaced in one step
    os.replace(partial, target)
    _remove(former)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _failure_of(act: Callable[[], object]) -> str | None:
    """Why ``act`` could not write, if it could not.

    torch turns the failed write of a file into a RuntimeError, and its distributed format that of
    any rank into an exception of its own, which is no Exception.
    """
    try:
        act()
    except (OSError, RuntimeError, CheckpointException) as error:
        return _cause(error)
    return None


def _write_error(target: Path, cause: str) -> CheckpointWriteError:
    if is_rank_zero():
        _remove(_partial(target))
    room = f"{shutil.disk_usage(target.parent).free / 1e9:.1f} GB are free there"
    return CheckpointWriteError(
        f"the checkpoint {str(target)!r} could not be written ({cause}; {room}): nothing is left "
        "of it, and those before it are as they were; make room, and start the run again"
    )


def _cause(error: BaseException) -> str:
    """What went wrong at first, in a line."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]  # of the first rank on which it failed
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
