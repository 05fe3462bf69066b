"""Files of ``torch.save``: an archive since torch 1.6, pickles with the numbers after them before.

Their pickles are read by :mod:`vidreason.perception.inert_pickles`. Tensors stay on the disk until
one is read, so an optimizer's state costs neither time nor memory; and no number in a file is
believed before it has been compared with the bytes that are there.
"""

import math
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

import torch
from torch import Tensor

from vidreason.perception.inert_pickles import (
    MAX_PICKLE_BYTES,
    RunsCodeError,
    StoredTensor,
    TensorUnpickler,
)

_BLOCK_BYTES = 2**22
_LOCAL_HEADER_BYTES = 30


class TorchFile(Protocol):
    """An open file of ``torch.save``."""

    content: object
    """What was saved, with a :class:`StoredTensor` for each tensor."""

    def read(self, stored: StoredTensor) -> Tensor:
        """One tensor, on CPU.

        Raises:
            ValueError: Its bytes are missing or damaged.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_torch_file(path: str) -> TorchFile:
    """Open a file that ``torch.save`` of any version since 0.1.10 wrote.

    Raises:
        ValueError: The file is damaged or in another format, or names something that runs code.
    """
    with open(path, "rb") as file:
        archive = file.read(2) == b"PK"
    return _Archive(path) if archive else _OldFile(path)


class _Archive:
    """A zip archive, as torch has written since 1.6."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # zipfile raises more than BadZipFile on damaged archives
            raise _damaged(path, error) from error
        try:
            self._records = self._checked_records()
            pickles = [name for name in self._records if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(
                    f"weights {path!r}: a zip archive, but not one that torch.save wrote"
                )
            self._folder = pickles[0].removesuffix("data.pkl")
            self._check_byte_order()
            size = self._records[pickles[0]].file_size
            with _named(path):
                _check_pickle_size(size)
                with self._archive.open(pickles[0]) as file:
                    self.content = TensorUnpickler(cast(BinaryIO, file)).load()
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def read(self, stored: StoredTensor) -> Tensor:
        """One tensor, on CPU."""
        with _named(self.path):
            name = f"{self._folder}data/{stored.record}"
            if name not in self._records:
                raise ValueError(f"there is no record {stored.record}")
            found = self._records[name].file_size
            with self._archive.open(name) as file:
                return _read_tensor(cast(BinaryIO, file), stored, found)

    def _checked_records(self) -> dict[str, zipfile.ZipInfo]:
        """What the archive holds; each in bytes of its own, and as it is."""
        entries = sorted(self._archive.infolist(), key=lambda entry: entry.header_offset)
        size = os.path.getsize(self.path)
        end = 0
        records: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = entry.filename
            problem = None
            if name in records:
                problem = f"has two records {name!r}"
            elif entry.flag_bits & 1:
                problem = f"has the record {name!r} encrypted, which torch.save does not do"
            elif entry.compress_type != zipfile.ZIP_STORED:
                problem = f"has the record {name!r} compressed, which torch.save does not do"
            elif entry.header_offset < end or entry.file_size != entry.compress_size:
                problem = f"has records that overlap ({name!r})"
            else:
                end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.file_size
                if end > size:
                    problem = f"ends before its record {name!r} does"
            if problem:
                raise ValueError(
                    f"weights {self.path!r} are truncated or damaged: the archive {problem}; copy "
                    "or download the file again"
                )
            records[name] = entry
        return records

    def _check_byte_order(self) -> None:
        name = f"{self._folder}byteorder"
        written = b"little"
        if name in self._records:
            with _named(self.path), self._archive.open(name) as file:
                written = file.read(16)
        if written != sys.byteorder.encode():
            raise ValueError(
                f"weights {self.path!r}: numbers in byte order {written!r}, while this machine's is"
                f" {sys.byteorder}; save them as safetensors"
            )


class _OldFile:
    """Pickles with the numbers after them, as torch wrote before 1.6."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        try:
            with _named(path, "neither safetensors nor a file of torch.save"):
                self._size = os.path.getsize(path)
                self._read_head()
                unpickler = TensorUnpickler(self._file)
                self.content = unpickler.load()
                keys = TensorUnpickler(self._file).load()
                self._offsets = self._find_records(keys, unpickler.storages)
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, stored: StoredTensor) -> Tensor:
        """One tensor, on CPU."""
        with _named(self.path):
            self._file.seek(self._offsets[stored.record])
            return _read_tensor(self._file, stored, stored.num_elements * stored.dtype.itemsize)

    def _read_head(self) -> None:
        magic, version, system = (TensorUnpickler(self._file).load() for _ in range(3))
        if magic != _OLD_MAGIC or version != _OLD_VERSION or not isinstance(system, dict):
            raise ValueError("it does not begin as such a file does")
        if system.get("little_endian") is not (sys.byteorder == "little"):
            raise ValueError("its numbers are in another byte order than this machine's")

    def _find_records(self, keys: object, storages: dict[str, StoredTensor]) -> dict[str, int]:
        """Where each record's numbers begin; all are there."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("its list of records is none")
        missing = storages.keys() - set(keys)
        if missing:
            raise ValueError(f"there is no record {min(missing)}")
        offset = self._file.tell()
        offsets: dict[str, int] = {}
        for key in keys:
            stored = storages.get(key)
            if stored is None or key in offsets:
                raise ValueError(f"the record {key} belongs to no tensor, or is there twice")
            self._file.seek(offset)
            count = int.from_bytes(self._file.read(8), "little", signed=True)
            if count != stored.num_elements:
                raise ValueError(f"record {key} has {count} of {stored.num_elements} numbers")
            offsets[key] = offset + 8
            offset += 8 + count * stored.dtype.itemsize
            if offset > self._size:
                raise ValueError(f"the file ends before its record {key} does")
        return offsets


_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001


def _read_tensor(file: BinaryIO, stored: StoredTensor, num_bytes: int) -> Tensor:
    """One tensor of a record that has ``num_bytes``, from where ``file`` is."""
    wanted = stored.num_elements * stored.dtype.itemsize
    if wanted != num_bytes:
        raise ValueError(f"record {stored.record} has {num_bytes} of {wanted} bytes")
    last = stored.offset + sum(
        (size - 1) * step for size, step in zip(stored.shape, stored.stride, strict=True)
    )
    if math.prod(stored.shape) and last >= stored.num_elements:
        raise ValueError(f"a tensor reaches beyond the end of record {stored.record}")
    values = torch.empty(stored.num_elements, dtype=stored.dtype)
    place = memoryview(values.view(torch.uint8).numpy().data)
    found = 0
    while found < len(place) and (block := file.read(min(_BLOCK_BYTES, len(place) - found))):
        place[found : found + len(block)] = block
        found += len(block)
    if found != len(place):
        raise ValueError(f"record {stored.record} has {found} of {len(place)} bytes")
    if file.read(1) and isinstance(file, zipfile.ZipExtFile):  # reaches the end: compares the CRC
        raise ValueError(f"record {stored.record} is longer than {found} bytes")
    tensor = values.as_strided(stored.shape, stored.stride, stored.offset)
    # A part of a larger record is copied, so that it does not keep the rest in memory.
    return tensor if tensor.numel() == values.numel() else tensor.clone()


def _check_pickle_size(size: int) -> None:
    if size > MAX_PICKLE_BYTES:
        raise ValueError(f"its pickle has {size:,} bytes, at most {MAX_PICKLE_BYTES:,} are read")


@contextmanager
def _named(path: str, what: str = "") -> Iterator[None]:
    """Turn what a damaged file makes the libraries raise into a line that names the file."""
    try:
        yield
    except RunsCodeError as error:
        raise ValueError(
            f"weights {path!r}: the pickle in this file asks to run {error}; nothing of "
            "it was run. A checkpoint has no use for that: do not trust this file"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # pickles and archives can be damaged in any way
        raise _damaged(path, error, what) from error


def _damaged(path: str, error: Exception, what: str = "") -> ValueError:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    kind = f"cannot be read: {what}, or they" if what else ""
    return ValueError(
        f"weights {path!r} {kind}{' ' if what else ''}are truncated or damaged ({cause}); copy or "
        "download the file again"
    )
