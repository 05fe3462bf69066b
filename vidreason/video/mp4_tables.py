"""The sample tables of an mp4 or mov file (ISO/IEC 14496-12, 8.6 to 8.8): all packets at once.

Demuxing a file of an hour reads all of its bytes to learn when each frame is shown; the file's own
tables say it in a few bytes a frame. libav reads them too but keeps the composition offsets to
itself, without which the order of B-frames is unknown. What is unusual here (fragments, edits that
hide frames, several descriptions) is left to demuxing.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vidreason.video.media import media_size, open_media
from vidreason.video.sample_table import SampleTable, UnusualError

MAX_INDEX_BYTES = 256 * 2**20
"""A larger index than this, of some 20 million frames, is taken for nonsense."""

_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide")

Boxes = dict[bytes, list[memoryview]]


def lacks_index(media: str) -> bool:
    """Return whether this is an mp4 file without its index, which is usually written last.

    Raises:
        OSError: The file cannot be read.
    """
    size = media_size(media)
    kinds = [kind for kind, _, _ in _top_boxes(media, size)]
    return bool(kinds) and kinds[0] in _FIRST_BOXES and b"moov" not in kinds


def read_sample_table(media: str, track_id: int) -> SampleTable | None:
    """The samples of one track, or None where demuxing must find them.

    Raises:
        OSError: The file cannot be read.
    """
    size = media_size(media)
    ranges = {kind: (begin, end) for kind, begin, end in _top_boxes(media, size)}
    begin, end = ranges.get(b"moov", (0, 0))
    if b"moof" in ranges or end > size or not 0 < end - begin <= MAX_INDEX_BYTES:
        return None
    with open_media(media) as file:
        file.seek(begin)
        moov = memoryview(file.read(end - begin))
    try:
        return _sample_table(_boxes(moov), track_id, size)
    except (UnusualError, KeyError, IndexError, ValueError):
        # A box is missing or shorter than its counts say: libav may still make sense of it.
        return None


def _top_boxes(media: str, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each outermost box's content; the last may end after the file."""
    offset = 0
    with open_media(media) as file:
        while offset + 8 <= size:
            file.seek(offset)
            header = file.read(16)
            length, kind, start = int.from_bytes(header[:4], "big"), header[4:8], offset + 8
            if length == 1:
                length, start = int.from_bytes(header[8:16], "big"), offset + 16
            if length == 0:
                length = size - offset
            if offset + length < start or not kind.isascii():
                return
            yield kind, start, offset + length
            offset += length


def _boxes(data: memoryview) -> Boxes:
    """The boxes inside ``data`` by kind."""
    boxes: Boxes = {}
    offset = 0
    while offset + 8 <= len(data):
        length, kind, start = _number(data, offset, 4), bytes(data[offset + 4 : offset + 8]), 8
        if length == 1:
            length, start = _number(data, offset + 8, 8), 16
        if length < start or offset + length > len(data):
            raise UnusualError
        boxes.setdefault(kind, []).append(data[offset + start : offset + length])
        offset += length
    return boxes


def _sample_table(moov: Boxes, track_id: int, file_size: int) -> SampleTable:
    if b"mvex" in moov:
        raise UnusualError  # the samples are in fragments
    movie_ticks = _timescale(moov[b"mvhd"][0])
    for data in moov[b"trak"]:
        track = _boxes(data)
        header = track[b"tkhd"][0]
        if _number(header, 20 if header[0] else 12, 4) == track_id:
            media = _boxes(track[b"mdia"][0])
            samples = _boxes(_boxes(media[b"minf"][0])[b"stbl"][0])
            table = _read_samples(samples, file_size)
            media_ticks = _timescale(media[b"mdhd"][0])
            edits = _boxes(track[b"edts"][0]).get(b"elst", []) if b"edts" in track else []
            for edit in edits:
                _check_edits(edit, table, media_ticks / movie_ticks)
            return table
    raise UnusualError


def _timescale(header: memoryview) -> int:
    return _number(header, 20 if header[0] else 12, 4)


def _read_samples(boxes: Boxes, file_size: int) -> SampleTable:
    has_marked_groups = any(bytes(group[4:8]) == b"rap " for group in boxes.get(b"sbgp", []))
    if has_marked_groups or b"stps" in boxes or _number(boxes[b"stsd"][0], 4, 4) != 1:
        raise UnusualError
    sizes = _sizes(boxes[b"stsz"][0], file_size)
    _check_inside(boxes, sizes, file_size)
    steps = _run_lengths(boxes[b"stts"][0], len(sizes))
    if len(sizes) == 0 or steps.min() < 0:
        raise UnusualError
    dts = np.cumsum(steps) - steps
    offsets = _run_lengths(boxes[b"ctts"][0], len(sizes)) if b"ctts" in boxes else 0
    is_key = np.ones(len(sizes), dtype=np.bool_)
    if b"stss" in boxes:
        is_key[:] = False
        is_key[_numbers(boxes[b"stss"][0], 8, ">u4") - 1] = True
    return SampleTable(dts=dts, pts=dts + offsets, sizes=sizes, is_shown=sizes > 0, is_key=is_key)


def _sizes(box: memoryview, file_size: int) -> NDArray[np.int64]:
    size, count = _number(box, 4, 4), _number(box, 8, 4)
    if size * count > file_size:
        raise UnusualError  # before memory is taken for what is not there
    if size:
        return np.full(count, size, dtype=np.int64)
    sizes = _numbers(box, 12, ">u4")
    if len(sizes) < count:
        raise UnusualError
    return sizes[:count]


def _run_lengths(box: memoryview, num_samples: int) -> NDArray[np.int64]:
    """The values of ``stts`` or ``ctts``, one a sample; large ones are negative numbers."""
    # (runs, 2): number of samples, and their value -> (num_samples,)
    pairs = _numbers(box, 8, ">i4")[: 2 * _number(box, 4, 4)].reshape(-1, 2)
    if pairs[:, 0].min() < 0 or pairs[:, 0].sum() != num_samples:
        raise UnusualError
    return np.repeat(pairs[:, 1], pairs[:, 0])


def _check_inside(boxes: Boxes, sizes: NDArray[np.int64], file_size: int) -> None:
    """Make sure that no sample ends after the file does."""
    if b"co64" in boxes:
        starts = _numbers(boxes[b"co64"][0], 8, ">u8")
    else:
        starts = _numbers(boxes[b"stco"][0], 8, ">u4")
    runs = _numbers(boxes[b"stsc"][0], 8, ">u4").reshape(-1, 3)  # first chunk, samples in each, ...
    last_chunks = np.append(runs[1:, 0], len(starts) + 1)
    samples_in_chunks = np.repeat(runs[:, 1], last_chunks - runs[:, 0])
    if len(samples_in_chunks) != len(starts) or samples_in_chunks.sum() != len(sizes):
        raise UnusualError
    sums = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.cumsum(samples_in_chunks)
    if (starts + sums[ends] - sums[ends - samples_in_chunks] > file_size).any():
        raise UnusualError


def _check_edits(box: memoryview, table: SampleTable, media_ticks_a_movie_tick: float) -> None:
    """Make sure that the edit list shows every sample, once and at its own speed."""
    wide = 8 if box[0] else 4
    length = 2 * wide + 4
    edits = [box[8 + n * length : 8 + (n + 1) * length] for n in range(_number(box, 4, 4))]
    shown = [edit for edit in edits if _number(edit, wide, wide) != 2 ** (8 * wide) - 1]
    if len(shown) != 1 or edits[-1] is not shown[0] or _number(shown[0], 2 * wide, 4) != 1 << 16:
        raise UnusualError
    start = _number(shown[0], wide, wide)
    duration = _number(shown[0], 0, wide) * media_ticks_a_movie_tick
    if table.pts.min() < start or (duration and table.pts.max() >= start + duration):
        raise UnusualError


def _number(data: memoryview, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "big")


def _numbers(data: memoryview, offset: int, dtype: str) -> NDArray[np.int64]:
    """All numbers from ``offset`` on."""
    whole = (len(data) - offset) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize
    values = np.frombuffer(data[offset : offset + whole], dtype=dtype)
    return cast("NDArray[np.int64]", values.astype(np.int64))
