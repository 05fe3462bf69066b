"""Choice of the frames of a video: pure arithmetic on timestamps (section 3.1.1).

The span is cut into ``num_clips`` equal clips (N_t) and each clip into ``frames_per_clip`` equal
intervals (F); of each interval, the frame shown at its middle is taken. Working on times, not on
frame numbers, makes this right for variable frame rates, and the same moments are seen whatever the
rate. Where frames are fewer than intervals, frames repeat.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidreason.video.config import SamplingConfig

TIME_TOLERANCE_SECONDS = 1e-9
"""A time this little before a frame's timestamp counts as the timestamp: the difference is
rounding, not time."""


def frame_indices_at(
    timestamps: NDArray[np.float64], seconds: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.int64]:
    """The frame shown at each time: the last one whose timestamp is not later.

    Args:
        timestamps: ``(n,)`` increasing times at which frames appear, the first at 0 or later.
        seconds: Times of any shape, from 0 on. Before the first frame's appearance, and after the
            last one's, that frame is taken.

    Returns:
        Frame numbers, int64, of the shape of ``seconds``.

    Raises:
        ValueError: There are no timestamps, or a time lies before 0.
    """
    times = np.asarray(seconds, dtype=np.float64)
    if len(timestamps) == 0:
        raise ValueError("timestamps is empty: a video has at least one frame")
    if times.size and not times.min() >= min(timestamps[0], 0.0) - TIME_TOLERANCE_SECONDS:
        raise ValueError(
            f"seconds: no frame is shown at {times.min()}, the first appears at {timestamps[0]}"
        )
    indices = np.searchsorted(timestamps, times + TIME_TOLERANCE_SECONDS, side="right") - 1
    return np.maximum(indices, 0).astype(np.int64)


def clip_frame_indices(
    timestamps: NDArray[np.float64],
    duration_seconds: float,
    config: SamplingConfig,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> NDArray[np.int64]:
    """The frames of each clip of a video or of a span of it.

    Args:
        timestamps: ``(n,)`` increasing times at which frames appear, the first at 0 or later.
        duration_seconds: When the last frame's showing ends.
        config: Numbers of clips and frames.
        start_seconds: Start of the span; None, or a time before the first frame's, for that.
        end_seconds: End of the span; None, or a time after the video's end, for the video's.

    Returns:
        ``(num_clips, frames_per_clip)`` frame numbers, int64, never decreasing.

    Raises:
        ValueError: The span is empty, or has no part in the video.
    """
    start, end = resolve_span(
        duration_seconds, start_seconds, end_seconds, first_seconds=float(timestamps[0])
    )
    return frame_indices_at(timestamps, start + frame_times(end - start, config))


def resolve_span(
    duration_seconds: float,
    start_seconds: float | None,
    end_seconds: float | None,
    *,
    first_seconds: float = 0.0,
) -> tuple[float, float]:
    """Start and end of the part of a span in which the video shows something.

    Args:
        duration_seconds: When the last frame's showing ends.
        start_seconds: Start of the span; None for the video's.
        end_seconds: End of the span; None for the video's.
        first_seconds: When the first frame appears: later than 0 where sound precedes the picture.

    Raises:
        ValueError: The span is empty, or has no part in the video.
    """
    start = 0.0 if start_seconds is None else float(start_seconds)
    end = float(duration_seconds) if end_seconds is None else float(end_seconds)
    if not 0 <= start < duration_seconds:
        raise ValueError(
            f"start_seconds must be at least 0 and before the video's end at {duration_seconds}, "
            f"found {start}"
        )
    if not start < end:
        raise ValueError(f"end_seconds must be after start_seconds = {start}, found {end}")
    if not first_seconds < end:
        raise ValueError(
            f"end_seconds must be after the first frame appears, at {first_seconds}, found {end}"
        )
    return max(start, first_seconds), min(end, float(duration_seconds))


def frame_times(duration_seconds: float, config: SamplingConfig) -> NDArray[np.float64]:
    """``(num_clips, frames_per_clip)`` moments that are looked at, in seconds from the start."""
    num_frames = config.num_clips * config.frames_per_clip
    # Middles of equal parts of the video, in seconds.
    middles = (np.arange(num_frames) + 0.5) / num_frames * duration_seconds
    # Clips follow each other: (num_clips * frames_per_clip,) -> (num_clips, frames_per_clip)
    return middles.reshape(config.num_clips, config.frames_per_clip)


def clip_spans(duration_seconds: float, num_clips: int) -> NDArray[np.float64]:
    """``(num_clips, 2)`` start and end of each clip, in seconds from the span's start."""
    edges = np.arange(num_clips + 1) / num_clips * duration_seconds
    return np.stack([edges[:-1], edges[1:]], axis=1)


def key_frame_positions(config: SamplingConfig) -> list[tuple[int, int]]:
    """(clip, frame) of each key frame, in time order: the middles of equal parts of all frames."""
    num_frames = config.num_clips * config.frames_per_clip
    numbers = [
        (2 * part + 1) * num_frames // (2 * config.num_key_frames)
        for part in range(config.num_key_frames)
    ]
    return [divmod(number, config.frames_per_clip) for number in numbers]
