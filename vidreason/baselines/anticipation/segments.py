"""Segments of a video: runs of frames with one label, and the forms that the networks take.

Lengths are counted in frames, which need not be those of the file: any fine unit of time will do.
Shapes: S slots, L labels, R rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

FRAMES_PER_SECOND = 100.0
"""Frame rate of segments whose times are known in seconds: a frame is a hundredth of one."""


class Segment(NamedTuple):
    """Consecutive frames with one label."""

    label: str
    length: float
    """In frames."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The segments of one video, first to last."""

    video_id: str
    segments: tuple[Segment, ...]
    """Neighbours differ in their labels."""
    observed: float | None = None
    """Frames before the moment from which on the future is to be predicted; None where any moment
    may be taken. Then only what comes next is known of the future, and its end is not."""
    is_timed: bool = True
    """True if the time is known at which the last segment begins; where nothing more happens, it
    has none."""
    media: str = ""
    """Path of the video file; empty where there is none."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    """Span of the file that is observed; None for its start and its end."""

    @property
    def length(self) -> float:
        """Frames of all segments."""
        return sum(segment.length for segment in self.segments)


def segments_of(labels: Iterable[str]) -> tuple[Segment, ...]:
    """Return the segments of labels that are given frame by frame."""
    return tuple(Segment(label, len(list(run))) for label, run in groupby(labels))


def labels_of(segments: Iterable[Segment]) -> list[str]:
    """Return a label for each whole frame of each segment, as the official code writes them."""
    return [segment.label for segment in segments for _ in range(int(segment.length))]


def cut_at(
    segments: Sequence[Segment], moment: float
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Cut segments in two at a moment, in frames from their start."""
    before: list[Segment] = []
    after: list[Segment] = []
    start = 0.0
    for label, length in segments:
        # Frames of this segment that lie before the moment.
        first = min(max(moment - start, 0.0), length)
        if first > 0:
            before.append(Segment(label, first))
        if length > first:
            after.append(Segment(label, length - first))
        start += length
    return tuple(before), tuple(after)


def vocabulary(recordings: Iterable[Recording]) -> tuple[str, ...]:
    """Return all labels, sorted."""
    return tuple(sorted({part.label for one in recordings for part in one.segments}))


def slot_rows(
    labels: Sequence[int | None], lengths: Sequence[float], num_slots: int, num_labels: int
) -> Tensor:
    """Return the RNN's input ``(S, L + 1)`` float32: one-hot labels, then lengths.

    Slots behind the last segment are zero. Segments beyond the number of slots are left out.

    Args:
        labels: Indices; None for a label that the network does not know, which is no one-hot.
        lengths: Already divided by the reference length.
        num_slots: S.
        num_labels: L.
    """
    rows = torch.zeros(num_slots, num_labels + 1)
    for slot, (label, length) in enumerate(
        zip(labels[:num_slots], lengths[:num_slots], strict=True)
    ):
        rows[slot, -1] = length  # the last column
        if label is not None:
            rows[slot, label] = 1.0
    return rows


def label_matrix(segments: Sequence[Segment], index: Mapping[str, int], num_rows: int) -> Tensor:
    """Return the CNN's input or target ``(R, L)`` float32: the one-hot label of each part of time.

    A segment has the rows from where it starts to where it ends, both rounded down. Rows of labels
    that are not in ``index`` are zero, as all are without any segment.
    """
    matrix = torch.zeros(num_rows, len(index))
    total = sum(segment.length for segment in segments)
    start = 0.0
    for number, (label, length) in enumerate(segments, start=1):
        end = start + length
        # Of the last one, the end is that of the matrix, whatever the sum's rounding.
        last = num_rows if number == len(segments) else int(num_rows * (end / total))
        if label in index:
            matrix[int(num_rows * (start / total)) : last, index[label]] = 1.0
        start = end
    return matrix


def mean_over_classes(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Return the mean over labels of the share of their frames that is predicted rightly (MoC).

    Frames of all videos are counted together; labels that do not occur in the truth have no share.
    As in the official ``eval.py``, frames that a prediction does not reach do not count.

    Args:
        pairs: For each video the true labels of the frames to be predicted, and the predicted ones.

    Returns:
        From 0 to 1; NaN without any frame.
    """
    right: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for truth, predicted in pairs:
        for true_label, label in zip(truth, predicted, strict=False):
            counts[true_label] += 1
            right[true_label] += true_label == label
    shares = [right[label] / count for label, count in counts.items()]
    return sum(shares) / len(shares) if shares else float("nan")
