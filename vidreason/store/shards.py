"""The file format of the feature store: a safetensors file with the entries of many videos.

Four tensors: ``offsets`` (int64, n + 1) says where in ``entries`` (bytes) each entry begins and the
last one ends, ``tokens`` (int32, n) how many visual tokens each has, ``keys`` (bytes, n x 16) whose
they are. The metadata name the format, the perceiver's fingerprint, which all entries of a shard
share, and the features' dtype. A shard is written once and never changed.
"""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.atomic_file import atomic_file
from vidreason.errors import ReportedError
from vidreason.store.entries import HEAD_BYTES, DamagedEntryError, check_entry, num_tokens_of

FORMAT = "vidreason-features-3"
SUFFIX = ".safetensors"
KEY_BYTES = 16

_MAX_HEADER_BYTES = 2**20  # 1 MiB


class FeatureStoreError(ReportedError):
    """A file in the store is not whole or cannot be written; the message says what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """The header of one shard file with n entries."""

    path: Path
    fingerprint: str
    """Fingerprint of the perceiver that saw the videos."""
    dtype: str
    """Number type of the features."""
    keys: NDArray[np.uint8]
    """``(n, 16)``"""
    offsets: NDArray[np.int64]
    """``(n + 1,)`` from the start of the file."""
    num_tokens: NDArray[np.int32]
    """``(n,)``"""

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, number: int) -> bytes:
        """The key of an entry."""
        return bytes(self.keys[number])

    def read(self, number: int) -> bytearray:
        """The bytes of an entry, checked.

        Raises:
            FeatureStoreError: They are not what was written.
        """
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        return read_entry(self.path, self.key(number), start, end - start)


def write_shard(path: Path, entries: Mapping[bytes, bytes], *, fingerprint: str, dtype: str) -> int:
    """Write a new shard, whole or not at all.

    Args:
        path: The shard's file.
        entries: What :func:`~vidreason.store.entries.encode_entry` gave for each key.
        fingerprint: Of the perceiver.
        dtype: Of the features.

    Returns:
        Where in the file the first entry begins; the others follow in their order.

    Raises:
        FeatureStoreError: The disk is full or refuses; nothing is left of the shard.
    """
    lengths = [len(content) for content in entries.values()]
    offsets = np.cumsum([0, *lengths], dtype="<i8")
    tokens = np.array([num_tokens_of(content) for content in entries.values()], dtype="<i4")
    tables = offsets.tobytes() + tokens.tobytes() + b"".join(entries)
    identity = {"format": FORMAT, "fingerprint": fingerprint, "dtype": dtype}
    header: dict[str, Any] = {
        "__metadata__": identity | {"checksum": str(_checksum(identity, tables))}
    }
    first = 0
    for name, letters, shape, size in _layout(len(entries), int(offsets[-1])):
        header[name] = {"dtype": letters, "shape": shape, "data_offsets": [first, first + size]}
        first += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # safetensors pads so that tensors are aligned
    try:
        with atomic_file(path) as file:
            file.write(len(text).to_bytes(8, "little") + text + tables)
            file.writelines(entries.values())
    except OSError as error:
        raise FeatureStoreError(
            f"shard {str(path)!r} of the feature store cannot be written ({error.strerror}): make "
            "room, or give another store.path; what is in the store stays sound"
        ) from error
    return 8 + len(text) + len(tables)


def read_header(path: Path) -> Shard:
    """Read whose entries are where in a shard.

    Raises:
        FeatureStoreError: The file is cut off, altered, or not a shard of this format.
        FileNotFoundError: There is no such file (any more).
    """
    with path.open("rb") as file:
        # Sizes are compared before anything of that size is read.
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or length > _MAX_HEADER_BYTES:
            raise damaged(path, f"{size} bytes, header of {length} bytes")
        try:
            header = json.loads(file.read(length))
            metadata = dict(header.pop("__metadata__", {}))
            if metadata.get("format") != FORMAT:
                raise damaged(path, f"format {metadata.get('format')!r}, expected {FORMAT!r}")
            checksum = int(metadata.pop("checksum"))
            count = int(header["keys"]["shape"][0])
            (num_bytes,) = header["entries"]["shape"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, f"unreadable header ({error!r})") from error
        sizes = [part[3] for part in _layout(count, num_bytes)]
        if size != 8 + length + sum(sizes):
            raise damaged(path, f"{size} bytes, expected {8 + length + sum(sizes)}")
        tables = file.read(sum(sizes[:3]))
    if _checksum(metadata, tables) != checksum:
        raise damaged(path, "the checksum of its table of entries is wrong")
    # Offsets of the entries, (n + 1,): an entry ends where the next one begins.
    offsets = np.frombuffer(tables, "<i8", count + 1)
    return Shard(
        path=path,
        fingerprint=metadata["fingerprint"],
        dtype=metadata["dtype"],
        keys=np.frombuffer(tables, np.uint8, offset=sizes[0] + sizes[1]).reshape(-1, KEY_BYTES),
        # In the file from the first entry on, here from the file's start.
        offsets=offsets.astype(np.int64) + (8 + length + sum(sizes[:3])),
        num_tokens=np.frombuffer(tables, "<i4", count, sizes[0]),
    )


def read_entry(path: Path, key: bytes, offset: int, length: int) -> bytearray:
    """Read the bytes of one entry, and nothing else of the shard.

    Raises:
        FeatureStoreError: They are not what was written under ``key``.
        FileNotFoundError: There is no such shard (any more).
    """
    content = bytearray(length)
    # Unbuffered: a buffer would read more than the entry.
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        num_read = file.readinto(content)
    try:
        if num_read != length:
            raise DamagedEntryError(f"the entry {key.hex()} is cut off")
        check_entry(key, content)
    except DamagedEntryError as error:
        raise damaged(path, str(error)) from error
    return content


def read_num_tokens(path: Path, key: bytes, offset: int, length: int) -> int:
    """Read how many visual tokens an entry has, from its first bytes, which are not checked.

    Raises:
        FeatureStoreError: The entry is cut off.
        FileNotFoundError: There is no such shard (any more).
    """
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        content = file.read(min(length, HEAD_BYTES))
    if len(content) < HEAD_BYTES:
        raise damaged(path, f"the entry {key.hex()} is cut off")
    return num_tokens_of(content)


def unreadable(path: Path, error: OSError) -> FeatureStoreError:
    """The error that says why a shard cannot be read, though it is there."""
    return FeatureStoreError(
        f"shard {str(path)!r} of the feature store cannot be read ({error.strerror}): its owner "
        "has to let you, or give another store.path"
    )


def damaged(path: Path, detail: str) -> FeatureStoreError:
    """The error that says what is wrong with a shard."""
    return FeatureStoreError(
        f"shard {str(path)!r} of the feature store is damaged: {detail}. Run `python -m "
        "experiments.store verify repair=true` with this store's configuration: sound entries are "
        "kept, the others will be perceived again"
    )


def _layout(count: int, num_bytes: int) -> list[tuple[str, str, list[int], int]]:
    """Name, safetensors' type, shape and size in bytes of each tensor, in the file's order."""
    return [
        ("offsets", "I64", [count + 1], 8 * (count + 1)),
        ("tokens", "I32", [count], 4 * count),
        ("keys", "U8", [count, KEY_BYTES], KEY_BYTES * count),
        ("entries", "U8", [num_bytes], num_bytes),
    ]


def _checksum(identity: Mapping[str, str], tables: bytes) -> int:
    return zlib.crc32(tables, zlib.crc32(json.dumps(identity, sort_keys=True).encode()))
