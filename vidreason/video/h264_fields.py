"""H.264 packets that hold a field, half of a frame (ITU-T H.264, 7.3.2 and 7.3.3)."""

from dataclasses import dataclass
from typing import NamedTuple

from vidreason.video.h264 import nal_units

_SEQUENCE, _PICTURE = 7, 8
_SLICES = (1, 2, 5)  # NAL unit types whose payload begins with a slice header
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_HEADER_BYTES = 64
"""A slice header's fields up to the one looked for take fewer."""


class _Sequence(NamedTuple):
    """The layout of slice headers by a sequence parameter set."""

    may_have_fields: bool
    frame_number_bits: int
    has_separate_planes: bool


class FieldFinder:
    """Finds field pictures in the packets of one stream.

    Args:
        extradata: The stream's: its parameter sets, and how NAL units are separated.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._extradata = extradata or b""
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}
        """By the id of a picture parameter set."""
        self.is_in_band = not self._extradata.startswith(b"\x01")
        """True if parameter sets may come anew with each key frame."""
        units = nal_units(self._extradata, b"") if self.is_in_band else _configured(self._extradata)
        for unit in units:
            self._learn(unit)

    @property
    def may_have_fields(self) -> bool:
        """Return whether some sequence parameter set allows fields, or none is known yet."""
        known = self._sequences.values()
        return not known or any(sequence.may_have_fields for sequence in known)

    def has_field(self, packet: bytes) -> bool:
        """Return whether the first slice in ``packet`` belongs to a field.

        Raises:
            IndexError: The packet ends early.
            KeyError: It refers to a parameter set that is not there.
            ValueError: It cannot be understood in another way.
        """
        for unit in nal_units(packet, self._extradata):
            kind = unit[0] & 0x1F
            self._learn(unit)
            if kind in _SLICES:
                bits = _Bits(unit[1:_HEADER_BYTES])
                bits.number()  # first macroblock
                bits.number()  # slice type
                sequence = self._sequences[self._sequence_of[bits.number()]]
                if not sequence.may_have_fields:
                    return False
                bits.take(2 * sequence.has_separate_planes + sequence.frame_number_bits)
                return bool(bits.take(1))
        return False

    def _learn(self, unit: bytes) -> None:
        kind = unit[0] & 0x1F
        if kind == _SEQUENCE:
            number, sequence = _read_sequence(_Bits(unit[1:]))
            self._sequences[number] = sequence
        elif kind == _PICTURE:
            bits = _Bits(unit[1:_HEADER_BYTES])
            number = bits.number()
            self._sequence_of[number] = bits.number()


def _configured(extradata: bytes) -> list[bytes]:
    """The parameter sets of an ``avcC`` box."""
    units = []
    start = 5
    for mask in (0x1F, 0xFF):
        count = extradata[start] & mask
        start += 1
        for _ in range(count):
            length = int.from_bytes(extradata[start : start + 2], "big")
            units.append(extradata[start + 2 : start + 2 + length])
            start += 2 + length
    return [unit for unit in units if unit]


def _read_sequence(bits: "_Bits") -> tuple[int, _Sequence]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.number()
    has_separate_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.number()
        has_separate_planes = chroma == 3 and bool(bits.take(1))
        bits.number(), bits.number()  # depths of luma and chroma
        bits.take(1)  # lossless transform
        if bits.take(1):
            for size in (16,) * 6 + (64,) * (2 if chroma != 3 else 6):
                if bits.take(1):
                    _skip_scaling_list(bits, size)
    frame_number_bits = bits.number() + 4
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        for _ in range(2):
            bits.number()
        for _ in range(bits.number()):
            bits.number()
    bits.number()  # reference frames
    bits.take(1)  # gaps allowed
    bits.number(), bits.number()  # width and height in macroblocks
    return number, _Sequence(not bits.take(1), frame_number_bits, has_separate_planes)


def _skip_scaling_list(bits: "_Bits", size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.number()
            delta = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + delta) % 256
        last = following or last


@dataclass
class _Bits:
    """Reads a NAL unit's payload bit by bit; emulation prevention bytes are left out."""

    data: bytes
    position: int = 0

    def __post_init__(self) -> None:
        self.data = self.data.replace(b"\0\0\3", b"\0\0")

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        value = 0
        for _ in range(count):
            byte = self.data[self.position // 8]
            value = value << 1 | byte >> 7 - self.position % 8 & 1
            self.position += 1
        return value

    def number(self) -> int:
        """The next Exp-Golomb code, unsigned."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("a code of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)
