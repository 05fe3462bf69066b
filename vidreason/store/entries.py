"""The bytes of one entry of the store: a video's visual tokens, with a checksum of their own.

An entry is one range of a shard's bytes, so reading it is one request to the disk or file server.
All numbers are little-endian; V tokens of width D::

    uint32 V, uint32 D, uint32 dtype, uint32 M, float64 duration in seconds
    float32 spans (V, 2), boxes (V, 4), areas (V,); int32 track ids (V,)
    int32 masks (V, 3): height, width, number of run lengths; zeros where there is no mask
    float32 scales (V,), of int8 features only
    features (V, D); uint8 kinds (V,); the masks' run lengths in M bytes, 7 bits a byte
    uint32 CRC-32 of the key and of all that precedes

The checksum covers the key, so an index that points to another video's entry is found out.
"""

import struct
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.perception.visual_tokens import MaskRuns, VisualTokens
from vidreason.store.config import StoredType

NUMBER_TYPES: dict[StoredType, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "int8": torch.int8,
}

_HEAD = struct.Struct("<IIIId")
HEAD_BYTES = _HEAD.size
"""First bytes of an entry, which say how many tokens it has."""
_CHECKSUM = struct.Struct("<I")
_CODES: dict[StoredType, int] = {"bfloat16": 1, "float32": 2, "int8": 3}
_TYPES_OF_CODES = {code: NUMBER_TYPES[name] for name, code in _CODES.items()}


class DamagedEntryError(ValueError):
    """The bytes are not those that were written under the key."""


def encode_entry(key: bytes, tokens: VisualTokens, dtype: StoredType) -> bytes:
    """The bytes of ``tokens`` under ``key``.

    ``int8`` features are multiples of a float32 scale of their token, its largest magnitude
    divided by 127.

    Raises:
        ValueError: A feature is infinite or not a number, which ``int8`` cannot hold.
    """
    features = tokens.features.detach().float().cpu()
    scales = b""
    if dtype == "int8":
        features, token_scales = _quantise(features)
        scales = _bytes(token_scales)
    # Masks as runs: size and number of runs per token, then all runs in a row.
    masks = np.array(
        [(*mask["size"], len(mask["counts"])) if mask else (0, 0, 0) for mask in tokens.masks],
        dtype="<i4",
    )
    counts = [count for mask in tokens.masks if mask for count in mask["counts"]]
    run_lengths = _pack(np.array(counts, dtype=np.uint32))
    num_tokens, width = features.shape
    parts = [
        _HEAD.pack(num_tokens, width, _CODES[dtype], len(run_lengths), tokens.duration_seconds),
        *(_bytes(part.float()) for part in (tokens.spans, tokens.boxes, tokens.areas)),
        _bytes(tokens.track_ids.to(torch.int32)),
        masks.tobytes(),
        scales,
        _bytes(features.to(NUMBER_TYPES[dtype])),
        _bytes(tokens.kinds.to(torch.uint8)),
        run_lengths,
    ]
    # The key is part of the checksum, so that no entry answers for another.
    content = b"".join(parts)
    return content + _CHECKSUM.pack(_checksum(key, content))


def decode_entry(key: bytes, content: bytes | bytearray) -> VisualTokens:
    """The tokens that :func:`encode_entry` was given, features rounded and as float32.

    Raises:
        DamagedEntryError: The checksum is wrong.
    """
    content = content if isinstance(content, bytearray) else bytearray(content)
    check_entry(key, content)
    num_tokens, width, code, num_run_bytes, duration_seconds = _HEAD.unpack_from(content)
    offset = _HEAD.size

    def take(dtype: torch.dtype, *shape: int) -> Tensor:
        nonlocal offset
        count = int(np.prod(shape))
        if not count:  # frombuffer refuses empty buffers
            return torch.empty(shape, dtype=dtype)
        tensor = torch.frombuffer(content, dtype=dtype, count=count, offset=offset)
        offset += count * dtype.itemsize
        return tensor.view(shape)

    # Copies, because a view would be pickled with the whole entry.
    spans = take(torch.float32, num_tokens, 2).clone()
    boxes = take(torch.float32, num_tokens, 4).clone()
    areas = take(torch.float32, num_tokens).clone()
    track_ids = take(torch.int32, num_tokens).long()
    masks = take(torch.int32, num_tokens, 3).tolist()
    dtype = _TYPES_OF_CODES[code]
    scales = take(torch.float32, num_tokens, 1) if dtype == torch.int8 else None
    features = take(dtype, num_tokens, width).to(torch.float32, copy=True)
    kinds = take(torch.uint8, num_tokens).long()
    run_lengths = _unpack(np.frombuffer(content, np.uint8, num_run_bytes, offset))
    return VisualTokens(
        features=features if scales is None else features.mul_(scales),
        kinds=kinds,
        spans=spans,
        boxes=boxes,
        areas=areas,
        track_ids=track_ids,
        masks=_split_masks(masks, run_lengths.tolist()),
        duration_seconds=duration_seconds,
    )


def check_entry(key: bytes, content: bytes | bytearray) -> None:
    """Raise ``DamagedEntryError`` unless ``content`` is what was written under ``key``."""
    size = len(content) - _CHECKSUM.size
    if size < _HEAD.size:
        raise DamagedEntryError(f"an entry has only {len(content)} bytes")
    (expected,) = _CHECKSUM.unpack_from(content, size)
    if _checksum(key, memoryview(content)[:size]) != expected:
        raise DamagedEntryError(f"the checksum of the entry {key.hex()} is wrong")


def num_tokens_of(content: bytes) -> int:
    """Number of visual tokens in an entry, of which ``HEAD_BYTES`` bytes are enough."""
    return int(_HEAD.unpack_from(content)[0])


def _checksum(key: bytes, content: bytes | memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(key))


def _quantise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Integers ``(V, D)`` from -127 to 127 and scales ``(V,)``."""
    largest = features.abs().amax(1) if features.numel() else features.new_zeros(len(features))
    if not bool(largest.isfinite().all()):
        raise ValueError(
            "store.dtype: int8 cannot hold features that are infinite or not a number; check the "
            "encoder's weights, or set store.dtype=float32"
        )
    scales = largest / 127
    # A token of zeros, or of numbers so small that their scale is zero, is stored as zeros.
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales))
    return (features / divisors[:, None]).round().clamp(-127, 127), scales


def _bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor as they lie in memory; NumPy has no bfloat16."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _pack(numbers: NDArray[np.uint32]) -> bytes:
    """Each number in as few bytes of 7 bits as it needs, the lowest first; the last has no flag."""
    lengths = np.ones(len(numbers), dtype=np.int64)
    # A byte, and one more for each seven bits that it does not hold.
    for bits in (7, 14, 21, 28):
        lengths += numbers >= 1 << bits
    packed = np.zeros(int(lengths.sum()), dtype=np.uint8)
    starts = np.cumsum(lengths) - lengths
    # Digit by digit over all numbers, for a loop over the numbers would be slow.
    for digit in range(int(lengths.max(initial=0))):
        longer = lengths > digit
        sevens = (numbers[longer] >> np.uint32(7 * digit)) & np.uint32(0x7F)
        flags = np.where(lengths[longer] > digit + 1, 0x80, 0)
        packed[starts[longer] + digit] = sevens | flags.astype(np.uint32)
    return packed.tobytes()


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers that :func:`_pack` was given."""
    if not len(packed):
        return np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(packed < 0x80)
    # Position of each byte within its number: 0, 1, ... from each start.
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = np.arange(len(packed)) - np.repeat(starts, ends - starts + 1)
    sevens = (packed & 0x7F).astype(np.int64) << (7 * digits)
    # (bytes,) -> (numbers,): the digits of each number, added up.
    return np.add.reduceat(sevens, starts)


def _split_masks(heads: list[list[int]], counts: list[int]) -> tuple[MaskRuns | None, ...]:
    masks: list[MaskRuns | None] = []
    first = 0
    for height, width, length in heads:
        runs = counts[first : first + length]
        masks.append(MaskRuns(size=[height, width], counts=runs) if length else None)
        first += length
    return tuple(masks)
