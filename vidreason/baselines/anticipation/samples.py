"""Training samples of the two networks, cut from recordings as the official code cuts them.

Official: yabufarha/anticipating-activities@756d5b8, utils/rnn_batch_gen.py and cnn_batch_gen.py.
Shapes: S slots, L labels, R rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vidreason.baselines.anticipation.config import AnticipationConfig
from vidreason.baselines.anticipation.rnn import RollOut
from vidreason.baselines.anticipation.segments import Recording, Segment, cut_at, label_matrix

OBSERVED_SHARES = (0.1, 0.2, 0.3, 0.5)
"""Parts of a video after which the CNN learns to predict."""
PREDICTED_SHARE = 0.5
"""Part of the whole video that the CNN predicts, where lengths are relative to the whole video.
Relative to what is observed, it predicts as much as it has seen."""
MAX_LENGTH = 6.0
"""Largest length that is learnt. Relative to the whole video none is larger; relative to what is
observed, all are at first."""
UNKNOWN = float("nan")
"""Length that is not known, and not learnt."""


class RnnSamples(NamedTuple):
    """Samples of the RNN."""

    slots: Tensor
    """``(n, S, L + 1)`` float32."""
    labels: Tensor
    """``(n,)`` int64: the next label."""
    lengths: Tensor
    """``(n, 2)`` float32: of the next segment, and of the rest of the last observed one;
    :data:`UNKNOWN` where nobody knows."""


class CnnSamples(NamedTuple):
    """Samples of the CNN."""

    observed: Tensor
    """``(n, R, L)`` float32."""
    future: Tensor
    """``(n, R, L)`` float32: one-hot rows."""


def rnn_samples(
    recordings: Iterable[Recording],
    index: Mapping[str, int],
    config: AnticipationConfig,
    num_cuts: int,
) -> RnnSamples:
    """Cut each segment but the last ``num_cuts`` times; what follows each cut is a sample.

    A recording whose observed part is known is also cut at its end, where its only use is.
    Samples whose next label is not in ``index`` are left out.
    """
    slots, labels, lengths = [], [], []
    roll_out = RollOut(num_slots=config.num_slots, kept=config.kept_slots)
    for recording in recordings:
        for observed, following, target in _cuts(recording, num_cuts):
            if following.label not in index:
                continue
            # Lengths are shares of a reference, which a recording's own length may give.
            total = None if recording.observed is not None else recording.length
            reference = config.reference(sum(part.length for part in observed), total)
            ids = [index.get(part.label) for part in observed]
            frames = [part.length for part in observed]
            slots.append(roll_out.inputs(ids, frames, reference, len(index)))
            labels.append(index[following.label])
            lengths.append([min(frames / reference, MAX_LENGTH) for frames in target])
    if not slots:
        raise ValueError(
            "no recording has two segments or more: there is nothing to anticipate in them"
        )
    # (n, S, L + 1), (n,), (n, 2)
    return RnnSamples(torch.stack(slots), torch.tensor(labels), torch.tensor(lengths))


def _cuts(
    recording: Recording, num_cuts: int
) -> Iterator[tuple[list[Segment], Segment, tuple[float, float]]]:
    """Yield the observed segments, the next one, and its length with the rest of the last one.

    As in the official code, the next length is that up to the next segment's own cut, except for
    the video's last segment, which is not cut.
    """
    segments = recording.segments
    for cut in range(num_cuts):
        # Cut k of n takes the share (k + 0.5) / n of each segment.
        cut_lengths = [int(part.length * (cut + 0.5) / num_cuts) for part in segments[:-1]]
        for number, length in enumerate(cut_lengths):
            observed = [*segments[:number], Segment(segments[number].label, length)]
            last = number == len(cut_lengths) - 1
            following = segments[-1].length if last else float(cut_lengths[number + 1])
            rest = segments[number].length - length
            if recording.observed is not None and last:
                following, rest = UNKNOWN, rest if recording.is_timed else UNKNOWN
            # Lengths relative to nothing say nothing.
            if sum(part.length for part in observed) > 0:
                yield observed, segments[number + 1], (following, rest)
    if recording.observed is not None:
        # Also at the end of what is observed: what comes next there is the one thing that is known.
        before, after = cut_at(segments, recording.observed)
        if before and after:
            rest = after[0].length if after[0].label == before[-1].label else 0.0
            following_parts = after[1:] if rest else after
            if following_parts:
                known = rest if recording.is_timed else UNKNOWN
                yield list(before), following_parts[0], (UNKNOWN, known)


def cnn_samples(
    recordings: Iterable[Recording], index: Mapping[str, int], config: AnticipationConfig
) -> CnnSamples:
    """Cut each recording at each of :data:`OBSERVED_SHARES`; what follows is a sample.

    A recording whose observed part is known is cut at its end alone; its last segment is taken to
    last for as long as the network looks ahead. Samples without a known label in their future are
    left out.
    """
    observed_rows, future_rows = [], []
    for recording in recordings:
        for observed, future in _futures(recording, config):
            target = label_matrix(future, index, config.num_rows)
            if target.any():
                observed_rows.append(label_matrix(observed, index, config.num_rows))
                future_rows.append(target)
    if not observed_rows:
        raise ValueError("no recording is long enough to be cut: there is nothing to anticipate")
    return CnnSamples(torch.stack(observed_rows), torch.stack(future_rows))


def _futures(
    recording: Recording, config: AnticipationConfig
) -> Iterator[tuple[Sequence[Segment], Sequence[Segment]]]:
    if recording.observed is not None:
        before, after = cut_at(recording.segments, recording.observed)
        if before and after:
            horizon = cnn_horizon(recording.observed, None, config)
            # The last segment has no known end: it is made to fill the horizon.
            longer = (*after[:-1], after[-1]._replace(length=after[-1].length + horizon))
            yield before, cut_at(longer, horizon)[0]
        return
    for share in OBSERVED_SHARES:
        seen = int(share * recording.length)
        horizon = cnn_horizon(seen, recording.length, config)
        # As the official code rounds the end.
        end = int((PREDICTED_SHARE + share) * recording.length)
        if config.length_reference == "observed":
            end = seen + int(horizon)
        before, after = cut_at(recording.segments, seen)
        future = cut_at(after, end - seen)[0]
        if before and future:
            yield before, future


def cnn_horizon(observed: float, total: float | None, config: AnticipationConfig) -> float:
    """Return the frames that the CNN's rows stand for.

    Raises:
        ValueError: The length of the whole video is needed and not known.
    """
    if config.length_reference == "observed":
        return observed
    config.reference(observed, total)  # says what is missing
    assert total is not None
    return PREDICTED_SHARE * total
