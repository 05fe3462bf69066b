"""Files of ``torch.save``: archives of a pickle and of the numbers of each tensor.

The pickle is read by :mod:`vidreason.perception.inert_pickles`. Tensors stay on the disk until
one is read, so an optimizer's state costs neither time nor memory; and no number in a file is
believed before it has been compared with the bytes that are there.
"""

import math
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import torch
from torch import Tensor

from vidreason.perception.inert_pickles import (
    MAX_PICKLE_BYTES,
    RunsCodeError,
    StoredTensor,
    TensorUnpickler,
)

_BLOCK_BYTES = 2**22  # 4 MiB at a time
_LOCAL_HEADER_BYTES = 30  # of a zip member, by the format, without its name


class TorchFile:
    """An open file of ``torch.save``.

    Raises:
        ValueError: The file is damaged or in another format, or names something that runs code.
    """

    content: object
    """Everything that was saved, with a :class:`StoredTensor` for each tensor."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                raise ValueError(
                    f"weights {path!r}: neither safetensors nor an archive of torch.save; if torch "
                    "before 1.6 wrote it, load it with torch and save it again"
                )
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
                if size > MAX_PICKLE_BYTES:
                    raise ValueError(
                        f"its pickle has {size:,} bytes, at most {MAX_PICKLE_BYTES:,} are read"
                    )
                with self._archive.open(pickles[0]) as file:
                    self.content = TensorUnpickler(cast(BinaryIO, file)).load()
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def read(self, stored: StoredTensor) -> Tensor:
        """One tensor, on CPU.

        Raises:
            ValueError: Its bytes are missing or damaged.
        """
        with _named(self.path):
            name = f"{self._folder}data/{stored.record}"
            if name not in self._records:
                raise ValueError(f"there is no record {stored.record}")
            num_bytes = self._records[name].file_size
            with self._archive.open(name) as file:
                return _read_tensor(cast(BinaryIO, file), stored, num_bytes)

    def _checked_records(self) -> dict[str, zipfile.ZipInfo]:
        """The records of the archive; they must not overlap, nor be compressed."""
        # In the order in which they lie in the file: each has to begin after the end of the one
        # before.
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


def _read_tensor(file: BinaryIO, stored: StoredTensor, num_bytes: int) -> Tensor:
    """One tensor of a record that has ``num_bytes``, from where ``file`` is."""
    wanted = stored.num_elements * stored.dtype.itemsize
    if wanted != num_bytes:
        raise ValueError(f"record {stored.record} has {num_bytes} of {wanted} bytes")
    # The farthest element that shape, strides and offset lead to.
    last = stored.offset + sum(
        (size - 1) * step for size, step in zip(stored.shape, stored.stride, strict=True)
    )
    if math.prod(stored.shape) and last >= stored.num_elements:
        raise ValueError(f"a tensor reaches beyond the end of record {stored.record}")
    values = torch.empty(stored.num_elements, dtype=stored.dtype)
    # The tensor's own bytes, into which the file is read.
    view = memoryview(values.view(torch.uint8).numpy().data)
    num_read = 0
    while num_read < len(view) and (block := file.read(min(_BLOCK_BYTES, len(view) - num_read))):
        view[num_read : num_read + len(block)] = block
        num_read += len(block)
    if num_read != len(view):
        raise ValueError(f"record {stored.record} has {num_read} of {len(view)} bytes")
    if file.read(1) and isinstance(file, zipfile.ZipExtFile):  # reaches the end: compares the CRC
        raise ValueError(f"record {stored.record} is longer than {num_read} bytes")
    tensor = values.as_strided(stored.shape, stored.stride, stored.offset)
    # A part of a larger record is copied, so that it does not keep the rest in memory.
    return tensor if tensor.numel() == values.numel() else tensor.clone()


@contextmanager
def _named(path: str) -> Iterator[None]:
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
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> ValueError:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ValueError(
        f"weights {path!r} are truncated or damaged ({cause}); copy or download the file again"
    )
