"""Number of pictures that a packet shows: mostly one, but a codec may split or bundle them.

A field of an H.264 frame may be a packet of its own. VP8, VP9 and AV1 have pictures that are only
referred to, alone or bundled with one that is shown. MPEG-4 in old files packs two into one packet
and has packets for none. Headers tell, at the cost of a few bytes a packet.
"""

from collections.abc import Callable
from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

from vidreason.video.h264_fields import FieldFinder

ONE_A_PACKET = {
    *("hevc", "vvc", "flv", "h263", "msmpeg4v2", "msmpeg4", "wmv1", "svq3"),
    *("gif", "apng", "png", "webp", "tiff", "ffv1"),
}
"""Codecs, by the names of libav's decoders, whose every packet shows one picture. So do those that
have nothing but key frames."""

_NOT_CODED_BYTES = 20
"""An MPEG-4 packet of fewer bytes repeats the picture before it; libav shows nothing for it."""

Counter = Callable[["Packet[Any]"], int | None]


class PictureCounter:
    """Counts the shown pictures of one stream's packets.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context.codec
        self._count: Counter = _COUNTERS.get(codec.name, lambda _: None)
        self.reads_contents = codec.name in ("mpeg1video", "mpeg2video", "mpeg4")
        """True if each packet's content has to be looked at: what a container's table says of
        packets is not enough."""
        if codec.name == "h264":
            self._count, self.reads_contents = _h264_counter(stream.codec_context.extradata)
        elif codec.name in ONE_A_PACKET or codec.intra_only:
            self._count = lambda _: 1

    def count(self, packet: "Packet[Any]") -> int | None:
        """0 or 1; None where only decoding tells how many pictures are shown for which packet."""
        if packet.size == 0:
            return 0
        return self._count(packet)


def _h264_counter(extradata: bytes | None) -> tuple[Counter, bool]:
    """A counter of H.264 pictures, and whether it has to read the content of each packet."""
    try:
        finder = FieldFinder(extradata)
    except (IndexError, ValueError):
        return lambda _: None, True

    def count(packet: "Packet[Any]") -> int | None:
        if not finder.may_have_fields and not (finder.is_in_band and packet.is_keyframe):
            return 1
        try:
            return None if finder.has_field(bytes(packet)) else 1
        except (IndexError, KeyError, ValueError):
            return 1  # damaged: what comes out of it, decoding tells

    return count, finder.may_have_fields


def _count_vp8(packet: "Packet[Any]") -> int:
    """The fifth bit says whether the picture is shown."""
    return memoryview(packet)[0] >> 4 & 1


def _count_vp9(packet: "Packet[Any]") -> int | None:
    """Annex B of the VP9 bitstream: a superframe ends with the sizes of its frames."""
    data = memoryview(packet)
    marker = data[-1]
    starts, end = [0], len(data)
    if marker >> 5 == 0b110:
        num_frames, size_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
        index = len(data) - 2 - num_frames * size_bytes
        if index >= 0 and data[index] == marker:
            sizes = [
                int.from_bytes(data[first : first + size_bytes], "little")
                for first in range(index + 1, len(data) - 1, size_bytes)
            ]
            starts = [sum(sizes[:number]) for number in range(num_frames) if sizes[number]]
            end = index
    shown = 0
    for start in starts:
        if start >= end:
            return None
        header = data[start]
        # Two bits of marker, two of profile (and one more if it is 3), then: show a frame decoded
        # before, no key frame, show this one.
        if header >> 4 & 3 == 3:
            header <<= 1
        shown += (header >> 3 & 1) or (header >> 1 & 1)
    return shown if shown < 2 else None


def _count_av1(packet: "Packet[Any]") -> int | None:
    """Section 5.9 of the AV1 bitstream: frame headers begin with whether they show a frame."""
    data = memoryview(packet)
    position = shown = 0
    is_still = False
    while position < len(data):
        header = data[position]
        kind, has_extension, has_size = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        position += 1 + has_extension
        size = len(data) - position
        if has_size:
            size = shift = 0
            for byte in data[position : position + 8]:
                size |= (byte & 127) << shift
                shift, position = shift + 7, position + 1
                if byte < 128:
                    break
        if position >= len(data) and kind in (1, 3, 6):
            return None
        if kind == 1:  # sequence header: three bits of profile, still picture, reduced header
            is_still = bool(data[position] >> 3 & 1)
        elif kind in (3, 6):  # a frame header, or one with its frame
            shown += is_still or bool(data[position] >> 7 or data[position] >> 4 & 1)
        position += size
    return shown if shown < 2 else None


def _count_mpeg2(packet: "Packet[Any]") -> int | None:
    """ITU-T H.262, 6.2.3: one frame, or both of its fields."""
    data = bytes(packet)
    num_pictures = data.count(b"\0\0\1\0")
    num_fields = 0
    position = data.find(b"\0\0\1\xb5")
    while 0 <= position < len(data) - 6:
        if data[position + 4] >> 4 == 8:  # picture coding extension
            num_fields += data[position + 6] & 3 != 3
        position = data.find(b"\0\0\1\xb5", position + 4)
    return 1 if (num_pictures, num_fields) in ((1, 0), (2, 2)) else None


def _count_mpeg4(packet: "Packet[Any]") -> int | None:
    data = bytes(packet)
    is_one = data.count(b"\0\0\1\xb6") == 1 and len(data) >= _NOT_CODED_BYTES
    return 1 if is_one else None


_COUNTERS: dict[str, Counter] = {
    "vp8": _count_vp8,
    "vp9": _count_vp9,
    "av1": _count_av1,
    "libdav1d": _count_av1,
    "libaom-av1": _count_av1,
    "mpeg1video": _count_mpeg2,
    "mpeg2video": _count_mpeg2,
    "mpeg4": _count_mpeg4,
}
