"""The packets of a video stream, from the container's own tables or by demuxing the whole file."""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidreason.video.container import OpenVideo, demux, is_end
from vidreason.video.matroska_blocks import read_block_table
from vidreason.video.mp4_tables import read_sample_table
from vidreason.video.packet_pictures import PictureCounter
from vidreason.video.reading_errors import describe
from vidreason.video.sample_table import SampleTable

Damage = dict[int | None, str]
"""Damage by presentation timestamp."""

NO_PTS = np.iinfo(np.int64).min

FEW_PACKETS = 600
"""A stream of no more packets is demuxed whole, which is quick then; the tables would also have to
be compared with packets. Where exactly the two cost the same was not measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketSurvey:
    """The P packets of a stream in the order of the file, and its first frame."""

    pts: NDArray[np.int64]
    """``(P,)`` presentation timestamps in ticks; ``NO_PTS`` where there is none."""
    dts: NDArray[np.int64]
    """``(P,)`` decoding timestamps, in the same way; none at all where they were not looked for."""
    is_key: NDArray[np.bool_]
    """``(P,)`` whether decoding can start here."""
    is_shown: NDArray[np.bool_]
    """``(P,)`` whether the packet holds a picture that is to be shown."""
    durations: NDArray[np.int64]
    """``(P,)`` in ticks; 0 where unknown."""
    num_complete: int
    """How many packets are not cut off."""
    is_exact: bool
    """True if each packet was seen to show one picture or none."""
    first_frame: VideoFrame | None
    damage: str
    """The first thing that went wrong, if any, before the first sound frame."""


def survey_packets(video: OpenVideo, *, use_tables: bool) -> PacketSurvey | None:
    """Survey a freshly opened video.

    What an mp4's own table, or the headers of a Matroska file's blocks, say of the packets is
    believed where it agrees with those up to the first frame and with those from the last key frame
    on. Reading frames checks each packet again.

    Args:
        video: To be opened again for anything else.
        use_tables: Whether the container's tables may take the place of demuxing.

    Returns:
        None if the table does not agree with the end of the file: then demux.
    """
    recorder = _Recorder(video)
    packets = demux(video)
    for packet in packets:
        recorder.add(packet)
        if recorder.first_frame is not None:
            break
    table = _table(video) if use_tables and recorder.first_frame is not None else None
    if table is not None:
        start = recorder.survey()
        num_recorded = len(start.pts)
        if _agrees(table, start, slice(0, num_recorded), start):
            last_key = int(np.flatnonzero(table.is_key)[-1])
            if last_key < num_recorded:
                return _demux_rest(recorder, packets)
            return _survey_from_table(video, table, start, last_key)
    return _demux_rest(recorder, packets)


def decode_packet(
    stream: VideoStream, packet: "Packet[VideoStream] | None"
) -> tuple[list[VideoFrame], Damage]:
    """Decode one packet, or with None take what the decoder still holds.

    Returns:
        The sound frames that came out, which may belong to earlier packets, and by presentation
        timestamp what is damaged. Libav hides damage where it can, by painting old pixels over it;
        a frame that it marks so is not sound.
    """
    damage: Damage = {}
    if packet is not None and packet.size == 0 and not is_end(packet):
        return [], damage  # a repeated picture of AVI; libav would take it for the end
    if packet is not None and packet.is_corrupt:
        damage[packet.pts] = "a packet is incomplete"
    try:
        frames = stream.decode(packet)
    except FFmpegError as error:
        return [], {packet.pts if packet is not None else None: describe(error)}
    for frame in frames:
        if frame.is_corrupt:
            damage[frame.pts] = "parts of a picture are missing"
    return [frame for frame in frames if not frame.is_corrupt], damage


class _Recorder:
    """Notes packets as they are demuxed, and decodes until the first sound frame."""

    def __init__(self, video: OpenVideo, *, decode: bool = True) -> None:
        self.first_frame: VideoFrame | None = None
        self._stream = video.stream
        self._decode = decode
        self._pictures = PictureCounter(video.stream)
        self._is_exact = True
        self._rows: list[tuple[int, int, bool, bool, int]] = []
        self._num_complete = 0
        self._damage = ""

    def add(self, packet: "Packet[VideoStream]") -> None:
        if not is_end(packet):
            num_shown = self._pictures.count(packet)
            self._is_exact = self._is_exact and num_shown is not None
            self._rows.append(
                (
                    NO_PTS if packet.pts is None else packet.pts,
                    NO_PTS if packet.dts is None else packet.dts,
                    packet.is_keyframe,
                    num_shown != 0 and not packet.is_discard,
                    packet.duration or 0,
                )
            )
            self._num_complete += not packet.is_corrupt
        if self._decode and self.first_frame is None:
            frames, damage = decode_packet(self._stream, packet)
            self.first_frame = frames[0] if frames else None
            self._damage = self._damage or next(iter(damage.values()), "")

    def survey(self) -> PacketSurvey:
        # Five columns also of a stream without packets: (packets, 5) -> (5, packets)
        columns = np.array(self._rows, dtype=np.int64).reshape(-1, 5).T
        return PacketSurvey(
            pts=columns[0],
            dts=columns[1],
            is_key=columns[2].astype(np.bool_),
            is_shown=columns[3].astype(np.bool_),
            durations=columns[4],
            num_complete=self._num_complete,
            is_exact=self._is_exact,
            first_frame=self.first_frame,
            damage=self._damage,
        )


def _demux_rest(recorder: _Recorder, packets: Iterator["Packet[VideoStream]"]) -> PacketSurvey:
    for packet in packets:
        recorder.add(packet)
    return recorder.survey()


def _table(video: OpenVideo) -> SampleTable | None:
    """Return what the container says of its packets, if it is worth a look."""
    stream = video.stream
    if stream.codec_context.codec.name == "vp8" or PictureCounter(stream).reads_contents:
        return None  # the packets' content tells which of them are shown
    if "mp4" in video.formats:
        num_packets = len(stream.index_entries)
        table = read_sample_table(video.path, stream.id) if num_packets > FEW_PACKETS else None
        return table if table is not None and len(table.pts) == num_packets else None
    if "matroska" in video.formats:
        seconds = (video.container.duration or 0) / av.time_base
        if seconds * (stream.average_rate or 0) > FEW_PACKETS:
            return read_block_table(video.path)
    return None


def _agrees(table: SampleTable, packets: PacketSurvey, rows: slice, start: PacketSurvey) -> bool:
    """Tell whether ``packets`` is what stands at ``rows`` of the table, moved as ``start`` says."""
    if table.dts is not None:
        moved = start.dts[0] - table.dts[0]
        if start.dts[0] == NO_PTS or not np.array_equal(packets.dts, table.dts[rows] + moved):
            return False
    return (
        start.pts[0] != NO_PTS
        and packets.num_complete == len(packets.pts) == len(table.pts[rows])
        and np.array_equal(packets.pts, table.pts[rows] + (start.pts[0] - table.pts[0]))
        and np.array_equal(packets.is_key, table.is_key[rows])
        and np.array_equal(packets.is_shown, table.is_shown[rows])
        and packets.is_exact
    )


def _survey_from_table(
    video: OpenVideo, table: SampleTable, start: PacketSurvey, last_key: int
) -> PacketSurvey | None:
    num_packets = len(table.pts)
    # The container's table has the times but for a shift, which the first packets tell.
    pts = table.pts + (start.pts[0] - table.pts[0])
    if table.dts is None:
        dts, durations = np.full(num_packets, NO_PTS), np.zeros(num_packets, dtype=np.int64)
    else:
        dts = table.dts + (start.dts[0] - table.dts[0])
        durations = np.append(np.diff(table.dts), 0)
    # Packets from the last key frame on must agree with it; else all are read.
    last_ticks = pts[last_key] if table.dts is None else dts[last_key]
    video.container.seek(int(last_ticks), stream=video.stream)
    recorder = _Recorder(video, decode=False)
    end = _demux_rest(recorder, demux(video))
    num_end = len(end.pts)
    if num_end == 0 or not _agrees(table, end, slice(num_packets - num_end, num_packets), start):
        return None
    durations[num_packets - num_end :] = end.durations
    return PacketSurvey(
        pts=pts,
        dts=dts,
        is_key=table.is_key,
        is_shown=table.is_shown,
        durations=durations,
        num_complete=num_packets,
        is_exact=True,
        first_frame=start.first_frame,
        damage=start.damage,
    )
