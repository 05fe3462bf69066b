"""The index of a video: when each frame is shown, and which packets must be decoded to get it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidreason.video.clock import (
    PacketClock,
    TimeRemark,
    clock_steps,
    fill_in,
)
from vidreason.video.container import BROADCAST_FORMATS, OpenVideo, clock_start, demux, open_video
from vidreason.video.display import (
    Orientation,
    check_image_size,
    check_num_pixels,
    display_orientation,
    displayed_size,
)
from vidreason.video.failures import VideoReadError
from vidreason.video.sampling import resolve_span
from vidreason.video.sequential import decode_numbered
from vidreason.video.survey import NO_PTS, PacketSurvey, survey_packets

SEEKABLE_FORMATS = {"mp4", "matroska"}
"""They have an index of key frames; in others a key frame is searched by timestamps."""

FORMATS_WITH_TIMES = SEEKABLE_FORMATS | BROADCAST_FORMATS | {"flv", "nut", "ogg"}
"""They say when a picture is shown. Others, such as AVI, ASF and MXF, may stamp pictures in the
order of decoding."""

MISSING_END_SECONDS = 0.5
"""How much shorter than its header says a Matroska stream may be before it counts as cut off."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketTable:
    """The P packets of a stream in the order of the file and of decoding, and its N frames."""

    pts: NDArray[np.int64]
    """``(P,)`` presentation timestamps in ticks; ``NO_PTS`` where a packet that shows nothing has
    none."""
    seek_ticks: NDArray[np.int64]
    """``(P,)`` what to seek to for a packet: in Matroska, whose table of key frames has them, its
    presentation timestamp; elsewhere its decoding timestamp. The other one where there is none."""
    is_key: NDArray[np.bool_]
    """``(P,)`` whether decoding can start here."""
    is_shown: NDArray[np.bool_]
    """``(P,)`` whether the packet shows a frame."""
    frame_packets: NDArray[np.int64]
    """``(N,)`` the packet of each shown frame, in presentation order."""

    @property
    def frame_pts(self) -> NDArray[np.int64]:
        """``(N,)`` the presentation timestamp of each frame, strictly increasing."""
        return self.pts[self.frame_packets]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoIndex:
    """Result of one pass over the packets of a video. It holds no open file and can be pickled."""

    path: str
    width: int
    """Width of the displayed picture, after rotation, in square pixels: one whose coded pixels are
    not square is scaled along its lines."""
    height: int
    rotation_degrees: int
    """Counterclockwise turn that brings the coded picture upright: 0, 90, 180 or 270."""
    is_mirrored: bool
    """True if the coded picture is flipped left to right before that turn."""
    timestamps: NDArray[np.float64]
    """``(n,)`` seconds since the file's start at which each frame appears; strictly increasing. The
    first is 0 unless the file's sound begins before its picture."""
    duration_seconds: float
    """Time from the file's start to the last frame's end."""
    start_time_seconds: float
    """The file's start in its container's timestamps, which need not begin at 0."""
    remarks: tuple[TimeRemark, ...]
    """Remarks on timestamps that are not the file's own; empty for a sound file."""
    codec: str
    packets: PacketTable | None
    """None when packets do not tell which frame is shown when (AVI, raw streams, fields, joined
    files): then frames are found by counting decoded pictures from the start of the file."""

    @property
    def num_frames(self) -> int:
        """Number of frames that the video shows."""
        return len(self.timestamps)

    @property
    def orientation(self) -> Orientation:
        """Transform of a decoded picture into the displayed one."""
        return Orientation(mirrored=self.is_mirrored, quarter_turns=self.rotation_degrees // 90)

    def span(
        self, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> tuple[float, float]:
        """Start and end of the part of a span in which the video shows something.

        Args:
            start_seconds: Start of the span; None for the video's.
            end_seconds: End of the span; None for the video's.

        Raises:
            VideoReadError: No frame is shown in the span.
            ValueError: The span is empty or starts before 0.
        """
        first_seconds = float(self.timestamps[0])
        if end_seconds is not None and end_seconds <= first_seconds and first_seconds > 0:
            raise VideoReadError(
                self.path,
                "span-outside",
                f"its picture begins at {first_seconds:.2f} s, after the span that ends at "
                f"{end_seconds:.2f} s",
            )
        if start_seconds is not None and start_seconds >= self.duration_seconds:
            raise VideoReadError(
                self.path,
                "span-outside",
                f"it ends at {self.duration_seconds:.2f} s, before the span that starts at "
                f"{start_seconds:.2f} s",
            )
        return resolve_span(
            self.duration_seconds, start_seconds, end_seconds, first_seconds=first_seconds
        )


def index_video(path: str) -> VideoIndex:
    """The index of a video; see :func:`index_and_keep_open`."""
    with index_and_keep_open(path) as (index, _):
        return index


@contextmanager
def index_and_keep_open(path: str) -> Iterator[tuple[VideoIndex, OpenVideo | None]]:
    """Learn when each frame is shown, and decode one frame for its size and orientation.

    An mp4 file of many frames tells it in a table, a Matroska file in the headers of its blocks:
    then the cost hardly grows with its length. Other files are read once from end to end.

    Returns:
        The index and, where every packet can be sought in the file, the open video.

    Raises:
        VideoReadError: The file is missing, empty, cut off, not a video, without a video stream, or
            without a single frame that can be decoded.
    """
    for use_tables in (True, False):
        with open_video(path) as video:
            survey = survey_packets(video, use_tables=use_tables)
            if survey is None:
                continue
            _check_complete(video, survey)
            if not _has_decoding_times(video, survey):
                index = _index_from_packets(video, survey)
                if index is not None:
                    yield index, video if SEEKABLE_FORMATS & video.formats else None
                    return
            break
    yield _index_by_decoding(path), None


def _has_decoding_times(video: OpenVideo, survey: PacketSurvey) -> bool:
    """Tell whether timestamps increase by packet though pictures may be shown otherwise."""
    if "avi" in video.formats:  # it numbers packets
        return True
    if FORMATS_WITH_TIMES & video.formats:
        return False
    return bool(video.stream.codec_context.has_b_frames and (np.diff(survey.pts) > 0).all())


def _index_from_packets(video: OpenVideo, survey: PacketSurvey) -> VideoIndex | None:
    """The index, or None when the packets' timestamps do not tell which frame is shown when."""
    first_frame = survey.first_frame
    if first_frame is None:
        raise _undecodable(video, survey.damage or "it has no packets")
    pts, shown, is_key = survey.pts, survey.is_shown.copy(), survey.is_key.copy()
    shown_pts = np.sort(pts[shown])
    repeats = (shown_pts[1:] == shown_pts[:-1]).any()
    if first_frame.pts is None or NO_PTS in shown_pts[:1] or repeats or not survey.is_exact:
        return None
    steps = np.diff(survey.dts[survey.dts != NO_PTS]) * float(video.tick)
    least, most = clock_steps(video)
    if len(steps) and not least <= steps.min() <= steps.max() <= most:
        return None
    # A broadcast may be recorded from any packet on; other files begin with a key frame, marked or
    # not (a damaged one is not).
    first_key = int(is_key.argmax()) if BROADCAST_FORMATS & video.formats else 0
    is_key[first_key] = True
    shown[:first_key] = False
    # Before its first frame a decoder shows nothing: what precedes it refers to pictures in front
    # of the file's start.
    unseen = shown & (pts < first_frame.pts)
    if survey.damage and (pts[unseen] >= pts[first_key]).any():
        raise VideoReadError(
            video.path, "decode-error", f"its first frame is damaged: {survey.damage}"
        )
    frame_packets = np.flatnonzero(shown & ~unseen)
    frame_packets = frame_packets[np.argsort(pts[frame_packets])]
    ticks, others = survey.dts, pts
    if "matroska" in video.formats:
        ticks, others = pts, survey.dts
    table = PacketTable(
        pts=pts,
        seek_ticks=np.where(ticks == NO_PTS, others, ticks),
        is_key=is_key,
        is_shown=shown & ~unseen,
        frame_packets=frame_packets,
    )
    last_duration = int(survey.durations[frame_packets[-1]])
    return _build_index(video, first_frame, pts[frame_packets], last_duration, table)


def _index_by_decoding(path: str) -> VideoIndex:
    with open_video(path) as video:
        clock = PacketClock(video)
        frames = decode_numbered(video, clock)
        first_frame, first_packet = next(frames, (None, None))
        if first_frame is None:
            raise _undecodable(video, "nothing comes out of its packets")
        numbers = [first_packet, *(number for _, number in frames)]
        ticks = [None if number is None else clock.pts[number] for number in numbers]
        if not FORMATS_WITH_TIMES & video.formats:
            # Times of decoding: all of them in order are those of showing.
            known = sorted(one for one in ticks if one is not None)
            ticks = [*known] if len(known) == len(ticks) else ticks
        times, filled_in = fill_in(ticks, 1 / _frame_rate(video.stream) / video.tick)
        remarks = [] if filled_in is None else [filled_in]
        if clock.num_joints:
            detail = (
                f"its timestamps begin anew {clock.num_joints} times: each part is taken to follow "
                "the one before it"
            )
            remarks.append(TimeRemark("clock-restarts", detail))
        last_duration = 0 if numbers[-1] is None else clock.durations[numbers[-1]]
        if len(times) > 1:  # a packet of one field is too short
            last_duration = max(last_duration, int(np.diff(times).min()))
        return _build_index(video, first_frame, times, last_duration, None, tuple(remarks))


def _build_index(
    video: OpenVideo,
    first_frame: VideoFrame,
    ticks: NDArray[np.int64] | NDArray[np.float64],
    last_duration: int,
    packets: PacketTable | None,
    remarks: tuple[TimeRemark, ...] = (),
) -> VideoIndex:
    """Turn the presentation times of all frames, in the stream's ticks, into the index."""
    tick = video.tick
    first_seconds = float(ticks[0]) * tick.numerator / tick.denominator
    start_seconds = clock_start(video, first_seconds)
    timestamps = (ticks - ticks[0]) * tick.numerator / tick.denominator
    timestamps = timestamps + (first_seconds - start_seconds)
    if not (np.diff(timestamps) > 0).all():  # beyond what a float can tell apart
        detail = f"its timestamps are nonsense: they go on to {timestamps[-1]:g} s"
        raise VideoReadError(video.path, "decode-error", detail)
    last_seconds = float(last_duration * tick)
    # Where the file does not say how long its last frame is shown: as most are, or by its rate.
    if last_seconds <= 0 and len(timestamps) > 1:
        last_seconds = float(np.median(np.diff(timestamps)))
    if last_seconds <= 0:
        last_seconds = float(1 / _frame_rate(video.stream))
    orientation = display_orientation(video.path, first_frame)
    pixel_aspect = video.stream.sample_aspect_ratio
    width, height = displayed_size(first_frame.width, first_frame.height, pixel_aspect, orientation)
    check_num_pixels(video.path, width, height)
    return VideoIndex(
        path=video.path,
        width=width,
        height=height,
        rotation_degrees=90 * orientation.quarter_turns,
        is_mirrored=orientation.mirrored,
        timestamps=timestamps,
        duration_seconds=float(timestamps[-1]) + last_seconds,
        start_time_seconds=start_seconds,
        remarks=remarks,
        codec=video.stream.codec_context.codec.name,
        packets=packets,
    )


def _undecodable(video: OpenVideo, cause: str) -> VideoReadError:
    if not video.stream.width:
        # libav does not say whether an image, or a picture of Motion JPEG, is damaged or too large.
        with open_video(video.path) as again:
            check_image_size(video.path, bytes(next(demux(again))))
    return VideoReadError(video.path, "decode-error", f"no frame can be decoded: {cause}")


def _check_complete(video: OpenVideo, survey: PacketSurvey) -> None:
    """Refuse a file that ends before the last packet its header speaks of."""
    # mp4 lists its packets beforehand; Matroska tells the length alone.
    if "mp4" in video.formats:
        num_announced = len(video.stream.index_entries)
        if survey.num_complete < num_announced:
            raise VideoReadError(
                video.path,
                "truncated",
                f"the file is cut off: {survey.num_complete} of its {num_announced} video packets "
                f"are complete",
            )
    elif "matroska" in video.formats:
        announced = _announced_end_seconds(video)
        has_pts = survey.pts != NO_PTS
        if announced is None or not has_pts.any():
            return
        end = int((survey.pts + survey.durations)[has_pts].max())
        end_seconds = float(end * video.tick)
        if end_seconds < announced - MISSING_END_SECONDS:
            raise VideoReadError(
                video.path,
                "truncated",
                f"the file is cut off: its video ends at {end_seconds:.2f} of {announced:.2f} s",
            )


def _announced_end_seconds(video: OpenVideo) -> float | None:
    """End of the video stream by the header of a Matroska file; None without one."""
    match = re.fullmatch(
        r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", video.stream.metadata.get("DURATION", "")
    )
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if len(video.container.streams) == 1 and video.container.duration is not None:
        return video.container.duration / av.time_base
    return None  # the file's duration may be that of a longer audio stream


def _frame_rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or Fraction(25)  # what libav itself assumes
