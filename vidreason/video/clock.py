"""Times of frames whose timestamps restart, repeat or are missing.

Times that a file gives are kept. Only what has none of its own is put between its neighbours, and
the index says so (:class:`TimeRemark`).
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice, pairwise, repeat
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidreason.video.container import OpenVideo, demux, is_end

JUMP_SECONDS = 10.0
"""In formats whose clock may change, such as MPEG-TS, a step of more than this, and one back of
more than ``RESTART_SECONDS``, is no time but another clock: as ffmpeg has it."""

RESTART_SECONDS = 0.1

OTHER_RESTART_SECONDS = 1.0
"""The same in other formats, where nothing but a mistake makes a clock go back."""

FORGIVEN_PACKETS = 3
"""MPEG-TS numbers its parts. Where segments are joined the numbers do not go on, and libav calls a
packet incomplete that is whole: the key frame that follows, or one of this many before it. These
the decoder judges, which sees what is really missing."""

RemarkKind = Literal["times-filled-in", "clock-restarts", "no-times"]


class TimeRemark(NamedTuple):
    """A way in which a video's times are not all the file's own."""

    kind: RemarkKind
    detail: str
    """In words, with numbers."""


class Joint(NamedTuple):
    """A packet, and whether another part of a joined file begins with it."""

    packet: "Packet[VideoStream]"
    is_first: bool


class PacketClock:
    """Puts the packets of a stream, in the order of the file, on one clock.

    Files made by joining others (HLS segments, recordings that were interrupted) have timestamps
    that begin anew. What follows such a joint is moved to where the part before it ends.

    Args:
        video: The freshly opened file.
    """

    def __init__(self, video: OpenVideo) -> None:
        self.pts: list[int | None] = []
        """Time of each packet, moved where the clock restarts."""
        self.durations: list[int] = []
        self.num_joints = 0
        self._video = video
        self._tick = float(video.tick)
        self._may_change = may_change_clock(video)
        self._steps = clock_steps(video)
        self._num_before_break = -FORGIVEN_PACKETS - 2  # none yet
        self._offset = 0
        self._last: int | None = None
        self._end: int | None = None

    def joints(self) -> Iterator[Joint]:
        """Demux all packets, the empty last one too."""
        packets = demux(self._video)
        waiting = deque(islice(packets, FORGIVEN_PACKETS))
        for newest in chain(packets, repeat(None, len(waiting))):
            if newest is not None:
                waiting.append(newest)
            packet = waiting.popleft()
            if packet.is_corrupt and self._may_change:
                self._num_before_break = len(self.pts)
                near = (packet, *islice(waiting, FORGIVEN_PACKETS))
                packet.is_corrupt = not any(other.is_keyframe for other in near)
            following = waiting[0] if waiting else None
            restarts = not is_end(packet) and self._add(packet, following)
            # A clock that goes back within a group of pictures is just a wrong clock.
            is_broken = len(self.pts) - self._num_before_break <= FORGIVEN_PACKETS + 1
            yield Joint(packet, restarts and (packet.is_keyframe or is_broken))

    def _add(self, packet: "Packet[Any]", following: "Packet[Any] | None") -> bool:
        """Put one more packet on the clock, and return whether the file's own restarts there."""
        now, later = _ticks(packet), None if following is None else _ticks(following)
        # One packet out of line is a mistake of its own; two are another clock.
        is_joint = not self._is_near(now) and later is not None and not self._is_near(later)
        if not self._may_change:
            is_joint = is_joint and packet.is_keyframe
        is_mistaken = not is_joint and (
            not self._is_near(now) or (self._is_near(later) and not self._is_step(now, later))
        )
        if is_joint and self._end is not None and now is not None:
            self._offset = self._end - (now if packet.pts is None else packet.pts)
            self.num_joints += 1
        if now is not None and not is_mistaken:
            self._last = now
        pts = packet.dts if packet.pts is None and self._is_counted else packet.pts
        if not self._is_step(packet.dts, pts):
            pts = None  # of another packet: where files were joined, demuxers mix them up
        moved = None if pts is None else pts + self._offset
        duration = packet.duration or 0
        self.pts.append(moved)
        self.durations.append(duration)
        if moved is not None and not is_mistaken:
            end = moved + max(duration, 1)
            self._end = end if self._end is None or is_joint else max(self._end, end)
        return is_joint

    @property
    def _is_counted(self) -> bool:
        """AVI numbers its pictures in the order of decoding, and has no other time."""
        return "avi" in self._video.formats

    def _is_near(self, ticks: int | None) -> bool:
        """Tell whether a time is on the clock of the last one."""
        return self._is_step(self._last, ticks)

    def _is_step(self, start: int | None, stop: int | None) -> bool:
        if start is None or stop is None:
            return True
        least, most = self._steps
        return least <= (stop - start) * self._tick <= most


def may_change_clock(video: OpenVideo) -> bool:
    """Tell whether the format allows timestamps to jump, as those of broadcasts do."""
    return bool(video.container.format.flags & cast(int, Flags.ts_discont.value))


def clock_steps(video: OpenVideo) -> tuple[float, float]:
    """The least and the largest step, in seconds, from one packet to the next of one clock."""
    if may_change_clock(video):
        return -RESTART_SECONDS, JUMP_SECONDS
    return -OTHER_RESTART_SECONDS, math.inf


def fill_in(
    ticks: Sequence[int | None], default_step: Fraction
) -> tuple[NDArray[np.float64], TimeRemark | None]:
    """Strictly increasing times of all frames, of which as many as possible are the file's own.

    Args:
        ticks: What the file says of each frame, in the order of presentation; not empty.
        default_step: Ticks from frame to frame where the file tells no two different times.

    Returns:
        ``(n,)`` times in ticks, and what had to be filled in. Frames that share a time divide its
        tick among them: a clock of 1 ms cannot tell 2000 frames a second apart. Other frames
        without a time of their own are spread evenly between those before and after.
    """
    # As few times as possible are given up: the longest run of increasing ones stays.
    kept = _longest_increasing(ticks)
    if not kept:
        step = float(default_step)
        remark = TimeRemark("no-times", "its frames have no times: they are taken as evenly spaced")
        return np.arange(len(ticks), dtype=np.float64) * step, remark
    positions = np.array(kept)
    kept_ticks = np.array([cast(int, ticks[position]) for position in kept], dtype=np.int64)
    if len(kept) == len(ticks):
        return kept_ticks.astype(np.float64), None
    step = float(default_step)
    if len(kept) > 1:
        step = float(np.median(np.diff(kept_ticks) / np.diff(positions)))
    # Between known times evenly; before the first and after the last at the usual step.
    times = np.interp(np.arange(len(ticks)), positions, kept_ticks)
    before, after = positions[0], len(ticks) - 1 - positions[-1]
    times[:before] = kept_ticks[0] - step * np.arange(before, 0, -1)
    times[len(ticks) - after :] = kept_ticks[-1] + step * np.arange(1, after + 1)
    _share_ticks(times, ticks, kept)
    detail = (
        f"{len(ticks) - len(kept)} of its {len(ticks)} frames have a time that is missing, "
        "repeated or out of order: they are shown between their neighbours"
    )
    return times, TimeRemark("times-filled-in", detail)


def _share_ticks(
    times: NDArray[np.float64], ticks: Sequence[int | None], kept: Sequence[int]
) -> None:
    """Move frames that repeat the time of the frame before them to within its tick."""
    for first, following in pairwise([*kept, len(ticks)]):
        stop = first + 1
        while stop < following and ticks[stop] == ticks[first]:
            stop += 1
        if stop > first + 1:
            times[first:stop] = times[first] + np.arange(stop - first) / (stop - first)
            rest = following - stop  # without any time, up to the next frame with one
            end = times[following] if following < len(ticks) else times[first] + 1 + rest
            times[stop:following] = np.linspace(times[stop - 1], end, rest + 2)[1:-1]


def _longest_increasing(ticks: Sequence[int | None]) -> list[int]:
    """Indices of the longest strictly increasing part; of equal numbers, the first."""
    if all(one is not None for one in ticks) and all(
        one < other for one, other in pairwise(cast("Sequence[int]", ticks))
    ):
        return list(range(len(ticks)))
    tails: list[int] = []  # the smallest end of an increasing part of each length
    ends: list[int] = []  # the indices of those ends
    before = [-1] * len(ticks)
    for index, number in enumerate(ticks):
        if number is None:
            continue
        length = bisect_left(tails, number)
        if length < len(tails) and tails[length] == number:
            continue
        before[index] = ends[length - 1] if length else -1
        tails[length : length + 1] = [number]
        ends[length : length + 1] = [index]
    kept = []
    index = ends[-1] if ends else -1
    while index >= 0:
        kept.append(index)
        index = before[index]
    return kept[::-1]


def _ticks(packet: "Packet[Any]") -> int | None:
    """Time at which a packet is decoded, or else shown."""
    return packet.pts if packet.dts is None else packet.dts
