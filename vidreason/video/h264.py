"""H.264 pictures that no other picture refers to (ITU-T H.264, 7.3.1 and Annex B).

Such pictures, most B-frames among them, need not be decoded unless they are wanted: a quarter to a
third of the decoding time. The decoder's own ``skip_frame`` is no substitute: it takes a damaged
packet for one to skip, keeps silent, and the frames after it come out with another frame's content.
"""

from collections.abc import Iterator

PICTURE_TYPES = range(1, 6)
"""NAL unit types that carry a slice of a picture."""


def is_unreferenced(packet: bytes, extradata: bytes | None) -> bool:
    """Return whether the packet holds one whole picture that no other picture refers to.

    Args:
        packet: The packet's bytes.
        extradata: The stream's; it tells how NAL units are separated.

    Returns:
        False also for a packet that cannot be understood, for the decoder to complain about.
    """
    headers = [packet[start] if start < stop else 0 for start, stop in _spans(packet, extradata)]
    slices = [header for header in headers if header & 0x1F in PICTURE_TYPES]
    # The first bit of a header is 0 by the standard, the next two say how much others refer to it.
    is_sound = bool(headers) and all(header < 0x80 and header & 0x1F for header in headers)
    return is_sound and bool(slices) and all(header >> 5 == 0 for header in slices)


def nal_units(packet: bytes, extradata: bytes | None) -> Iterator[bytes]:
    """The NAL units of a packet, header first, up to what makes no sense; see there."""
    for start, stop in _spans(packet, extradata):
        if start >= stop:
            return
        yield packet[start:stop]


def _spans(packet: bytes, extradata: bytes | None) -> Iterator[tuple[int, int]]:
    """Start and end of each NAL unit; an empty one stands for what makes no sense."""
    if not extradata or extradata[:1] != b"\x01" or len(extradata) < 5:  # start codes (Annex B)
        offset = packet.find(b"\0\0\1")
        while 0 <= offset < len(packet) - 3:
            following = packet.find(b"\0\0\1", offset + 3)
            yield offset + 3, following if following >= 0 else len(packet)
            offset = following
        return
    length_size = (extradata[4] & 3) + 1  # avcC: each unit's length stands before it
    offset = 0
    while offset < len(packet):
        length = int.from_bytes(packet[offset : offset + length_size], "big")
        offset += length_size
        if length == 0 or offset + length > len(packet):
            yield offset, offset
            return
        yield offset, offset + length
        offset += length
