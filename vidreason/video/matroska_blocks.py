"""The blocks of a Matroska or WebM file (RFC 9559, RFC 8794): all packets without their content.

Matroska has no table of its packets, only one of its key frames. But each block begins with its
length, time and flags, so the headers can be read one after another, and the content left alone.
Clusters, a few seconds each, are independent of each other: their first headers are read together,
then their second ones, and so on, which numpy does far faster than Python could do one by one. What
is unusual here (laces, sizes that are not known, encodings) is left to demuxing.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vidreason.video.media import is_remote, media_size, parse_member
from vidreason.video.sample_table import SampleTable, UnusualError

MAX_CHILDREN = 1024
"""Children of a cluster or block group. This many in a row cost as much as demuxing ten thousand
packets, and libav and mkvmerge write clusters of at most five seconds."""

_EBML, _SEGMENT, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
_INFO, _CUES, _TAGS, _SEEK_HEAD = 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x114D9B74
_CHAPTERS, _ATTACHMENTS, _VOID, _CRC = 0x1043A770, 0x1941A469, 0xEC, 0xBF
_TOP = {_TRACKS, _CLUSTER, _INFO, _CUES, _TAGS, _SEEK_HEAD, _CHAPTERS, _ATTACHMENTS, _VOID, _CRC}

_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE, _CODEC = 0xAE, 0xD7, 0x83, 0x86
_TRACK_SCALE, _ENCODINGS = 0x23314F, 0x6D80
_VIDEO_TYPE = 1  # of a track, by the format
_CODECS = {b"V_MPEG4/ISO/AVC", b"V_MPEGH/ISO/HEVC", b"V_VP9", b"V_AV1"}
"""Codecs of a packet a block, of a picture each, or of none that is told by few bytes; VP8 hides
some."""

_TIME, _SIMPLE_BLOCK, _BLOCK_GROUP, _POSITION, _PREVIOUS_SIZE = 0xE7, 0xA3, 0xA0, 0xA7, 0xAB
_IN_CLUSTER = [_TIME, _SIMPLE_BLOCK, _BLOCK_GROUP, _POSITION, _PREVIOUS_SIZE, _VOID, _CRC]
_BLOCK, _DURATION, _REFERENCE, _DISCARDED = 0xA1, 0x9B, 0xFB, 0x75A2
_IN_GROUP = [_BLOCK, _DURATION, _REFERENCE, _DISCARDED, _VOID, _CRC]

_KEY_FLAG, _LACING_FLAGS = 0x80, 0x06
_HEADER_BYTES = 4  # of a block: its track's number, its time, its flags

_LENGTHS = np.array([9 - value.bit_length() for value in range(256)], dtype=np.int64)
"""How many bytes a number has that begins with this one; 9 for what begins none."""

_MASKS = np.array([2 ** (8 * length) - 1 for length in range(9)], dtype=np.uint64)

Offsets = NDArray[np.int64]
Content = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Elements:
    """N elements in the order of the file."""

    ids: NDArray[np.int64]
    starts: Offsets
    """``(N,)`` where their content starts."""
    stops: Offsets
    parents: NDArray[np.int64]
    """``(N,)`` the number of the element each is in."""

    def of(self, kind: int) -> "_Elements":
        """The elements of one id."""
        chosen = self.ids == kind
        return _Elements(
            ids=self.ids[chosen],
            starts=self.starts[chosen],
            stops=self.stops[chosen],
            parents=self.parents[chosen],
        )


def read_block_table(media: str) -> SampleTable | None:
    """The packets of a file's one video track, or None where demuxing must find them.

    Raises:
        OSError: The file cannot be read.
    """
    if is_remote(media):
        return None  # where reading a header costs as much as reading all
    member = parse_member(media)
    size = media_size(media)
    if size == 0:
        return None
    path, offset = (media, 0) if member is None else (member.archive, member.offset)
    # Only the pages that hold headers are read. If the file shrinks meanwhile, or the disk fails,
    # the process ends: with a limit of time that is the decoder's, and the cause is "crashed".
    mapped = np.memmap(path, np.uint8, "r", offset=offset, shape=(size,))
    try:
        return _block_table(np.asarray(mapped))
    except (UnusualError, KeyError, IndexError):
        return None  # damaged, perhaps: libav may still make sense of it


def _block_table(data: Content) -> SampleTable:
    clusters, track, codec = _find_clusters(data)
    children = _children(data, clusters[:, 0], clusters[:, 1], _IN_CLUSTER)
    times = children.of(_TIME)
    # Each cluster has one time.
    if not np.array_equal(times.parents, np.arange(len(clusters))):
        raise UnusualError
    simple, groups = children.of(_SIMPLE_BLOCK), children.of(_BLOCK_GROUP)
    in_groups = _children(data, groups.starts, groups.stops, _IN_GROUP)
    grouped = in_groups.of(_BLOCK)
    if not np.array_equal(grouped.parents, np.arange(len(groups.ids))):
        raise UnusualError
    # A block of a group is a key frame if it refers to no other; a simple block has a flag.
    has_reference = np.zeros(len(groups.ids), dtype=np.bool_)
    has_reference[in_groups.of(_REFERENCE).parents] = True
    starts = np.concatenate([simple.starts, grouped.starts])
    stops = np.concatenate([simple.stops, grouped.stops])
    owners = np.concatenate([simple.parents, groups.parents[grouped.parents]])
    if (starts < times.starts[owners]).any() or (stops - starts < _HEADER_BYTES).any():
        raise UnusualError
    # (blocks, 4): track number, two bytes of ticks, flags
    headers = data[starts[:, None] + np.arange(_HEADER_BYTES)]
    if (headers[:, 0] < 0x80).any():
        raise UnusualError  # a track number of several bytes
    is_key = headers[:, 3] & _KEY_FLAG > 0
    is_key[len(simple.ids) :] = ~has_reference
    # Signed 16 bits, from the time of the cluster: (blocks, 2) bytes -> (blocks,)
    ticks = np.ascontiguousarray(headers[:, 1:3]).view(">i2")[:, 0].astype(np.int64)
    pts = _numbers(data, times.starts, times.stops - times.starts)[owners] + ticks
    sizes = stops - starts - _HEADER_BYTES
    blocks = np.flatnonzero(headers[:, 0] == 0x80 | track)
    # Packets count in the order of the file; simple and grouped blocks mix there.
    blocks = blocks[np.argsort(starts[blocks])]
    is_laced = headers[blocks, 3] & _LACING_FLAGS > 0
    if len(blocks) == 0 or is_laced.any() or pts[blocks].min() < 0 or sizes[blocks].min() == 0:
        raise UnusualError
    is_shown = np.ones(len(blocks), dtype=np.bool_)
    if codec == b"V_VP9":
        is_shown = _shows_vp9(data[starts[blocks] + _HEADER_BYTES], data[stops[blocks] - 1])
    return SampleTable(
        dts=None, pts=pts[blocks], sizes=sizes[blocks], is_shown=is_shown, is_key=is_key[blocks]
    )


def _shows_vp9(first: Content, last: Content) -> NDArray[np.bool_]:
    """Tell whether packets show a picture, by first and last bytes; see ``packet_pictures``."""
    is_superframe = last >> 5 == 0b110  # of which one is shown
    is_profile_3 = first >> 4 & 3 == 3
    header = np.where(is_profile_3, first << 1, first)
    is_shown: NDArray[np.bool_] = is_superframe | (header & 0b1010 > 0)
    return is_shown


def _find_clusters(data: Content) -> tuple[Offsets, int, bytes]:
    """Start and stop of each cluster's content, ``(N, 2)``; the video track's number and codec."""
    view = data.data
    # A header, then one segment that fills the file: anything else is demuxed by libav.
    kind, _, stop = _element(view, 0)
    if kind != _EBML:
        raise UnusualError
    kind, offset, end = _element(view, stop)
    if kind != _SEGMENT or end != len(data):
        raise UnusualError
    clusters = []
    tracks = None
    while offset < end:
        kind, start, offset = _element(view, offset)
        if kind not in _TOP:
            raise UnusualError
        if kind == _CLUSTER:
            clusters.append((start, offset))
        elif kind == _TRACKS:
            tracks = view[start:offset]
    if offset != end or tracks is None or not clusters:
        raise UnusualError
    return np.array(clusters, dtype=np.int64), *_video_track(tracks)


def _video_track(tracks: memoryview) -> tuple[int, bytes]:
    """Number and codec of the only video track."""
    videos = []
    for kind, entry in _pairs(tracks):
        fields = dict(_pairs(entry)) if kind == _TRACK_ENTRY else {}
        if fields and int.from_bytes(fields[_TRACK_TYPE]) == _VIDEO_TYPE:
            videos.append(fields)
    if len(videos) != 1 or {_TRACK_SCALE, _ENCODINGS} & videos[0].keys():
        raise UnusualError
    number = int.from_bytes(videos[0][_TRACK_NUMBER])
    codec = bytes(videos[0][_CODEC]).rstrip(b"\0")
    if codec not in _CODECS or not 0 < number < 0x7F:
        raise UnusualError
    return number, codec


def _pairs(data: memoryview) -> list[tuple[int, memoryview]]:
    """Ids and contents of the elements in ``data``."""
    elements = []
    offset = 0
    while offset < len(data):
        kind, start, offset = _element(data, offset)
        elements.append((kind, data[start:offset]))
    return elements


def _element(data: memoryview, offset: int) -> tuple[int, int, int]:
    """The id of the element at ``offset``, and where its content starts and stops."""
    id_length = int(_LENGTHS[data[offset]])
    size_length = int(_LENGTHS[data[offset + id_length]])
    start = offset + id_length + size_length
    unknown = (1 << 7 * size_length) - 1
    size = int.from_bytes(data[offset + id_length : start]) & unknown
    if id_length > 4 or size_length > 8 or size == unknown or start + size > len(data):
        raise UnusualError
    return int.from_bytes(data[offset : offset + id_length]), start, start + size


def _children(data: Content, starts: Offsets, stops: Offsets, allowed: list[int]) -> _Elements:
    """The elements directly inside others, which lie at ``starts`` to ``stops``."""
    # The next child of each parent, of all parents at once: as many rounds as one has children.
    offsets, parents = starts, np.arange(len(starts))
    elements = [np.zeros((4, 0), dtype=np.int64)]
    for _ in range(MAX_CHILDREN):
        is_inside = offsets < stops
        offsets, stops, parents = offsets[is_inside], stops[is_inside], parents[is_inside]
        if len(offsets) == 0:
            break
        first = data[offsets].astype(np.int64)
        id_lengths = _LENGTHS[first]
        is_long = id_lengths == 2
        # Known ones have one byte or two, which keep the bits of their length.
        ids = np.where(is_long, first << 8 | data[np.minimum(offsets + 1, len(data) - 1)], first)
        size_offsets = offsets + id_lengths
        if (id_lengths > 2).any() or (size_offsets >= stops).any():
            raise UnusualError
        size_lengths = _LENGTHS[data[size_offsets]]
        if (size_lengths > 8).any():
            raise UnusualError
        unknown = (np.int64(1) << 7 * size_lengths) - 1
        # Without the bits of their length; all ones is a size that the writer did not know.
        sizes = _numbers(data, size_offsets, size_lengths) & unknown
        content = size_offsets + size_lengths
        offsets = content + sizes
        if (sizes == unknown).any() or (offsets > stops).any():
            raise UnusualError
        elements.append(np.stack([ids, content, offsets, parents]))
    else:
        raise UnusualError
    columns = np.concatenate(elements, axis=1)
    # From the order of the rounds back to that of the file.
    columns = columns[:, np.argsort(columns[1])]
    if not np.isin(columns[0], allowed).all():
        raise UnusualError
    return _Elements(ids=columns[0], starts=columns[1], stops=columns[2], parents=columns[3])


def _numbers(data: Content, offsets: Offsets, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Big-endian numbers of 0 to 8 bytes at ``offsets``; from 2**63 on they are negative."""
    if lengths.max(initial=0) > 8:
        raise UnusualError
    # Read up to their ends: what stands before them is always inside the file, and shifted out.
    windows = data[(offsets + lengths)[:, None] + np.arange(-8, 0)]
    values = windows.view(">u8")[:, 0].astype(np.uint64)
    return cast("NDArray[np.int64]", (values & _MASKS[lengths]).astype(np.int64))
