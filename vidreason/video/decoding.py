"""Decoding chosen frames of an indexed video: the fewest packets that give them, exactly.

To read frames, the key frame before each is sought, and what follows is decoded up to the last one
wanted; frames of one group of pictures share one such run. What comes out is what decoding the
whole file in order gives, byte for byte, or a :class:`VideoReadError`; never a neighbour.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidreason.video.clock import FORGIVEN_PACKETS, may_change_clock
from vidreason.video.container import OpenVideo, demux, is_end, open_video
from vidreason.video.display import PictureConverter
from vidreason.video.failures import VideoReadError
from vidreason.video.h264 import is_unreferenced
from vidreason.video.index import PacketTable, VideoIndex
from vidreason.video.reading_errors import reading_errors
from vidreason.video.sequential import decode_all
from vidreason.video.survey import NO_PTS, decode_packet


def decode_frames(
    index: VideoIndex,
    frame_indices: Sequence[int],
    pictures: NDArray[np.uint8],
    opened: OpenVideo | None = None,
) -> None:
    """Decode frames into ``pictures``.

    Args:
        index: From :func:`vidreason.video.index.index_video`.
        frame_indices: n numbers from 0 to ``index.num_frames - 1``, in any order.
        pictures: ``(n, H, W, 3)``, filled with RGB in displayed orientation. ``H`` and ``W`` need
            not be the index's: each frame is scaled as it is decoded, and only one is held in full.
        opened: The video, from :func:`vidreason.video.index.index_and_keep_open`; opening it again
            costs as much as decoding some ten frames.

    Raises:
        VideoReadError: A wanted frame cannot be decoded, or the file is not the one
            that was indexed.
    """
    rows: dict[int, list[int]] = {}
    for row, frame_index in enumerate(frame_indices):
        rows.setdefault(frame_index, []).append(row)
    if rows:
        height, width = pictures.shape[1:3]
        converter = PictureConverter(width, height, index.orientation)
        for frame_index, frame in _decode(index, rows, opened):
            pictures[rows[frame_index]] = converter.convert(frame)


def plan_runs(table: PacketTable, frame_indices: Collection[int]) -> list[tuple[int, int]]:
    """Group frames into runs of packets, so that no packet is decoded twice.

    Args:
        table: The packets of the video.
        frame_indices: The wanted frames.

    Returns:
        For each run the number of its first packet, a key frame, and of its last, which shows a
        wanted frame.
    """
    keys = np.flatnonzero(table.is_key)
    runs: list[tuple[int, int]] = []
    for packet in np.sort(table.frame_packets[list(frame_indices)]):
        key = int(np.searchsorted(keys, packet, side="right")) - 1
        # A leading picture (open GOP) is shown before the key frame that it follows in the file,
        # and refers to the group of pictures before.
        if table.pts[packet] < table.pts[keys[key]] and key > 0:
            key -= 1
        start, stop = int(keys[key]), int(packet)
        if runs and start <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _decode(
    index: VideoIndex, wanted: Collection[int], opened: OpenVideo | None
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield each wanted frame with its index, in any order; a second try may repeat some."""
    table = index.packets
    if table is None:
        yield from _decode_counting(index, wanted)
        return
    try:
        source = nullcontext(opened) if opened else open_video(index.path)
        with source as video, reading_errors(index.path):
            if opened is not None:  # somewhere in the file: back to its start
                video.container.seek(int(table.seek_ticks[0]), stream=video.stream)
            for run in plan_runs(table, wanted):
                yield from _decode_run(video, index, table, run, wanted, from_file_start=False)
    except VideoReadError:
        # Seeking can land wrong, and a file can call a picture a key frame that is none. Decoding
        # from the start of the file settles it, and reports what is really damaged.
        run = (int(table.is_key.argmax()), int(table.frame_packets[list(wanted)].max()))
        with open_video(index.path) as video:
            yield from _decode_run(video, index, table, run, wanted, from_file_start=True)


def _decode_run(
    video: OpenVideo,
    index: VideoIndex,
    table: PacketTable,
    run: tuple[int, int],
    wanted: Collection[int],
    *,
    from_file_start: bool,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the packets of one run and yield the wanted frames that they show.

    Every frame sent to the decoder has to come out sound, the last ones too: a frame that is shown
    early may refer to one that is shown late.
    """
    start, stop = run
    key_pts = int(table.pts[start])
    shown_pts = set(table.pts[start : stop + 1][table.is_shown[start : stop + 1]].tolist())
    wanted_pts = {int(table.pts[table.frame_packets[frame]]): frame for frame in wanted}
    pending: set[int] = set()  # shown by a packet sent to the decoder, not come out yet
    # Without B-frames hardly a packet may be left out, and looking costs more than it saves.
    has_b_frames = video.stream.codec_context.has_b_frames
    can_skip = index.codec == "h264" and has_b_frames and not from_file_start
    extradata = video.stream.codec_context.extradata
    for packet in chain(_packets(video, table, run, seek=not from_file_start), [None]):
        if packet is not None and packet.pts is not None and packet.pts in shown_pts:
            is_wanted = packet.pts in wanted_pts
            if can_skip and not is_wanted and is_unreferenced(bytes(packet), extradata):
                continue
            pending.add(packet.pts)
        frames, damage = decode_packet(video.stream, packet)
        for pts, cause in damage.items():
            if pts is None or pts >= key_pts or pts in wanted_pts:
                moment = _moment(index, table, pts)
                raise VideoReadError(index.path, "decode-error", f"it is damaged {moment}: {cause}")
        for frame in frames:
            if frame.pts is not None and frame.pts in pending:
                pending.remove(frame.pts)
                if frame.pts in wanted_pts:
                    yield wanted_pts[frame.pts], frame
    # Leading pictures of the run's first key frame refer to what was not decoded. Whether they come
    # out, and how, does not matter unless they are wanted.
    lost = [pts for pts in pending if pts >= key_pts or pts in wanted_pts]
    if lost:
        moment = _moment(index, table, min(lost))
        raise VideoReadError(index.path, "decode-error", f"no picture comes out {moment}")


def _packets(
    video: OpenVideo, table: PacketTable, run: tuple[int, int], *, seek: bool
) -> Iterator["Packet[VideoStream]"]:
    """Demux the packets of one run, making sure that they are those of the table."""
    start, stop = run
    # Of the next packet in the table; None until it is known where a seek has landed.
    number: int | None = 0
    if seek and start > 0:
        video.container.seek(int(table.seek_ticks[start]), stream=video.stream)
        number = None
    for packet in demux(video):
        if is_end(packet):
            break
        pts = NO_PTS if packet.pts is None else packet.pts
        if number is None:  # where did the seek land?
            if pts == table.pts[start]:
                number = start
            else:
                numbers = np.flatnonzero(table.pts == pts)
                # A time that none or several of the packets have tells nothing: the next one may.
                if len(numbers) != 1:
                    continue
                number = int(numbers[0])
            if number > start:
                raise _changed(video.path, "seeking went past the key frame")
        if number >= len(table.pts) or pts != table.pts[number]:
            raise _changed(video.path, "its packets are not those that were indexed")
        if number >= start:
            if packet.is_corrupt and may_change_clock(video):
                near = table.is_key[number : number + 1 + FORGIVEN_PACKETS]
                packet.is_corrupt = not near.any()
            yield packet
        if number == stop:
            return
        number += 1
    raise _changed(video.path, "it has fewer packets than when it was indexed")


def _changed(path: str, detail: str) -> VideoReadError:
    return VideoReadError(path, "changed", detail)


def _decode_counting(
    index: VideoIndex, wanted: Collection[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from the start and count: for files whose packets do not tell what is shown when."""
    last = max(wanted)
    with open_video(index.path) as video:
        for frame_index, frame in enumerate(decode_all(video)):
            if frame_index in wanted:
                yield frame_index, frame
            if frame_index == last:
                return
    raise VideoReadError(index.path, "decode-error", f"no picture comes out for frame {last}")


def _moment(index: VideoIndex, table: PacketTable, pts: int | None) -> str:
    if pts is None:
        return "at an unknown time"
    frame = min(int(np.searchsorted(table.frame_pts, pts)), index.num_frames - 1)
    return f"at frame {frame} ({index.timestamps[frame]:.2f} s)"
