"""The file format of the feature store: a safetensors file with the visual tokens of many videos.

The tokens of all videos of a shard lie one after another in nine tensors; the header says which
rows are whose. A video is therefore read with one small read a tensor, and the index of a shard
with one read of its header.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from vidreason.perception.visual_tokens import MaskRuns, VisualTokens

FORMAT = "vidreason-features-2"
SUFFIX = ".safetensors"

_DTYPES = {
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "I32": torch.int32,
    "U8": torch.uint8,
}


class FeatureStoreError(Exception):
    """A file in the store is not whole or not a shard; the message names it and the remedy."""


class Entry(NamedTuple):
    """Where in a shard one video's tokens are."""

    first_row: int
    num_rows: int
    first_count: int
    num_counts: int
    duration_seconds: float


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The header of one shard file."""

    path: Path
    dtype: torch.dtype
    """Of the features."""
    entries: Mapping[str, Entry]
    """From feature key to place."""
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...], int]]
    """From tensor name to dtype, shape and position in the file."""


def write_shard(path: Path, videos: Mapping[str, VisualTokens], dtype: torch.dtype) -> None:
    """Write ``path`` so that it is complete or absent.

    Args:
        path: The shard; an existing one is replaced.
        videos: Visual tokens by feature key, all of one width.
        dtype: The features' number type in the file.
    """
    rows = list(videos.values())
    masks = [mask for tokens in rows for mask in tokens.masks]
    tensors = {
        "features": torch.cat([tokens.features for tokens in rows]).to(dtype),
        "kinds": torch.cat([tokens.kinds for tokens in rows]).to(torch.uint8),
        "spans": torch.cat([tokens.spans for tokens in rows]),
        "boxes": torch.cat([tokens.boxes for tokens in rows]),
        "areas": torch.cat([tokens.areas for tokens in rows]),
        "track_ids": torch.cat([tokens.track_ids for tokens in rows]).to(torch.int32),
        "mask_sizes": _int32([mask["size"] if mask else [0, 0] for mask in masks]).view(-1, 2),
        "mask_lengths": _int32([len(mask["counts"]) if mask else 0 for mask in masks]),
        "mask_counts": _int32([count for mask in masks if mask for count in mask["counts"]]),
    }
    entries, first_row, first_count = {}, 0, 0
    for key, tokens in videos.items():
        num_counts = sum(len(mask["counts"]) for mask in tokens.masks if mask)
        entries[key] = Entry(
            first_row, len(tokens), first_count, num_counts, tokens.duration_seconds
        )
        first_row, first_count = first_row + len(tokens), first_count + num_counts
    temporary = path.with_name(path.name + ".tmp")
    try:
        metadata = {"format": FORMAT, "entries": json.dumps(entries)}
        save_file(tensors, temporary, metadata=metadata)
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_to_disk(path.parent)


def read_header(path: Path) -> Shard:
    """Read where everything is in a shard.

    Raises:
        FeatureStoreError: The file is cut off or is not a shard of this format.
    """
    with path.open("rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if size < 8 + header_length:
            raise _damaged(path, f"{size} bytes, header of {header_length} bytes")
        try:
            header: dict[str, Any] = json.loads(file.read(header_length))
        except ValueError as error:
            raise _damaged(path, f"unreadable header ({error})") from error
    metadata = header.pop("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise _damaged(path, f"format {metadata.get('format')!r}, expected {FORMAT!r}")
    data_start = 8 + header_length
    data_length = max(tensor["data_offsets"][1] for tensor in header.values())
    if size != data_start + data_length:
        raise _damaged(path, f"{size} bytes, expected {data_start + data_length}")
    tensors = {
        name: (
            _DTYPES[tensor["dtype"]],
            tuple(tensor["shape"]),
            data_start + tensor["data_offsets"][0],
        )
        for name, tensor in header.items()
    }
    entries = {key: Entry(*place) for key, place in json.loads(metadata["entries"]).items()}
    return Shard(path=path, dtype=tensors["features"][0], entries=entries, tensors=tensors)


def read_entry(shard: Shard, key: str) -> VisualTokens:
    """Read one video's tokens; features come as float32, whatever the shard holds."""
    entry = shard.entries[key]
    with shard.path.open("rb", buffering=0) as file:

        def rows(name: str, first: int, count: int) -> Tensor:
            dtype, shape, start = shard.tensors[name]
            row_bytes = dtype.itemsize * int(torch.Size(shape[1:]).numel())
            data = bytearray(os.pread(file.fileno(), count * row_bytes, start + first * row_bytes))
            if len(data) != count * row_bytes:
                raise _damaged(shard.path, f"{name} of {key} is cut off")
            if not data:  # frombuffer refuses empty buffers
                return torch.empty((0, *shape[1:]), dtype=dtype)
            return torch.frombuffer(data, dtype=dtype).view(count, *shape[1:])

        def of_tokens(name: str) -> Tensor:
            return rows(name, entry.first_row, entry.num_rows)

        counts = rows("mask_counts", entry.first_count, entry.num_counts).tolist()
        return VisualTokens(
            features=of_tokens("features").float(),
            kinds=of_tokens("kinds").long(),
            spans=of_tokens("spans"),
            boxes=of_tokens("boxes"),
            areas=of_tokens("areas"),
            track_ids=of_tokens("track_ids").long(),
            masks=_split_masks(
                of_tokens("mask_sizes").tolist(), of_tokens("mask_lengths").tolist(), counts
            ),
            duration_seconds=entry.duration_seconds,
        )


def _split_masks(
    sizes: list[list[int]], lengths: list[int], counts: list[int]
) -> tuple[MaskRuns | None, ...]:
    masks: list[MaskRuns | None] = []
    first = 0
    for size, length in zip(sizes, lengths, strict=True):
        masks.append(MaskRuns(size=size, counts=counts[first : first + length]) if length else None)
        first += length
    return tuple(masks)


def _int32(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def _damaged(path: Path, found: str) -> FeatureStoreError:
    return FeatureStoreError(
        f"shard {str(path)!r} of the feature store is damaged: {found}. Delete the file; "
        "its videos will be perceived again"
    )


def _flush_to_disk(path: Path) -> None:
    """Without this a crash of the machine could leave a renamed file without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
