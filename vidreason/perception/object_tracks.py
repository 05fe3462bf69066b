"""Track ids: objects of different key frames that are one (section 3.1.2 leaves this open).

"The red ball" of three key frames should be one object to point at. Objects are alike if their
tokens are, which speaks also where they move far between key frames, and the more so if their masks
overlap, which tells things that look the same from each other where they move little. Each key
frame's objects are matched one to one with the tracks that were seen on the frame before, or on the
one before that, so that the sum of the likenesses is as large as can be. Masks of one key frame
that cover the same pixels, which a segmenter's removal of duplicates may leave, are one object.

Shapes: K objects of a key frame, N objects of others, h x w masks, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidreason.perception.config import TrackConfig

_FORGOTTEN_AFTER = 2
"""Key frames. An object that is hidden on one key frame is found again on the next."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyFrameObjects:
    """The objects of one key frame."""

    masks: Tensor
    """``(K, h, w)`` bool, of one size on all key frames."""
    tokens: Tensor
    """``(K, D)`` from eq. 2."""


def track_objects(key_frames: Sequence[KeyFrameObjects], config: TrackConfig) -> list[list[int]]:
    """Give each object of each key frame a track id.

    Which objects share an id does not depend on their order within a key frame, unless two have
    the same mask and token.

    Args:
        key_frames: In time order.
        config: Weights and thresholds.

    Returns:
        Ids by key frame and object, counted from 0 in the order of first sight.
    """
    tracks: list[_Track] = []
    ids: list[list[int]] = []
    for number, objects in enumerate(key_frames):
        # Masks of one frame that cover each other are one object, and go on as one.
        groups = _one_object_each(objects.masks, config.same_object_overlap)
        recent = [track for track in tracks if number - track.seen_on <= _FORGOTTEN_AFTER]
        alike = {
            before: _likeness(objects, key_frames[before], config.overlap_weight)
            for before in {track.seen_on for track in recent}
        }
        # Likeness of each object to each recent track, by their most alike masks: (groups, tracks).
        gains = np.zeros((len(groups), len(recent)))
        for (row, group), (column, track) in product(enumerate(groups), enumerate(recent)):
            gains[row, column] = alike[track.seen_on][np.ix_(group, track.members)].max()
        matched = best_matches(np.where(gains >= config.min_likeness, gains, 0.0))
        frame_ids = [-1] * len(objects.masks)
        for row, group in enumerate(groups):
            if row in matched:
                track = recent[matched[row]]
                track.seen_on, track.members = number, group
            else:
                track = _Track(id=len(tracks), seen_on=number, members=group)
                tracks.append(track)
            for index in group:
                frame_ids[index] = track.id
        ids.append(frame_ids)
    return ids


@dataclass
class _Track:
    """An object, and where it was seen last."""

    id: int
    seen_on: int
    """Number of the key frame."""
    members: list[int]
    """Among that key frame's objects."""


def _one_object_each(masks: Tensor, min_overlap: float) -> list[list[int]]:
    """Groups of masks, as indices, linked by overlaps of at least ``min_overlap``."""
    linked = (mask_overlaps(masks, masks) >= min_overlap).tolist()
    groups: list[list[int]] = []
    for index, row in enumerate(linked):
        # A mask joins all groups that it is linked to.
        apart = [group for group in groups if not any(row[other] for other in group)]
        joined = [other for group in groups if group not in apart for other in group]
        groups = [*apart, sorted([*joined, index])]
    return sorted(groups)


def _likeness(
    objects: KeyFrameObjects, others: KeyFrameObjects, overlap_weight: float
) -> NDArray[np.float64]:
    """``(K, N)``: from -1 to 1 for the tokens, and up to ``overlap_weight`` for the masks."""
    # (K, 1, D) with (1, N, D) -> (K, N)
    cosines = functional.cosine_similarity(objects.tokens[:, None], others.tokens[None], dim=-1)
    likeness = cosines + overlap_weight * mask_overlaps(objects.masks, others.masks)
    result: NDArray[np.float64] = likeness.double().cpu().numpy()
    return result


def mask_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """IoU of ``(K, h, w)`` with ``(N, h, w)`` bool masks: ``(K, N)`` float32."""
    a, b = first.flatten(1).float(), second.flatten(1).float()  # (K, h * w), (N, h * w)
    shared = a @ b.T  # float32 counts pixels exactly up to 2 ** 24
    union = a.sum(1)[:, None] + b.sum(1)[None] - shared  # (K, 1) + (1, N) -> (K, N)
    return shared / union.clamp(min=1)


def best_matches(gains: NDArray[np.float64]) -> dict[int, int]:
    """The one-to-one matching of rows and columns with the largest sum of gains.

    It is the shortest-augmenting-path form of the Hungarian method (R. Jonker and A. Volgenant,
    Computing 38, 1987): rows enter one at a time, each along the path of least added cost; the
    prices of rows and columns keep every such path cheapest, hence the whole matching. Time grows
    with the cube of the number of objects, which is small.

    Args:
        gains: ``(K, N)``; pairs without a gain above 0 are never matched.

    Returns:
        The column of each matched row.
    """
    num_rows, num_columns = gains.shape
    # A column of its own lets each row stay unmatched for nothing.
    cost = np.hstack([-np.maximum(gains, 0.0), np.zeros((num_rows, num_rows))])
    size = num_columns + num_rows
    row_prices, column_prices = np.zeros(num_rows), np.zeros(size)
    row_of = np.full(size, -1)
    for row in range(num_rows):
        # Dijkstra's search: the cheapest way from this row to a column that no row has yet, over
        # columns whose rows would change to others.
        shortest = np.full(size, np.inf)
        before = np.full(size, -1)
        done = np.zeros(size, dtype=bool)
        current, column, length = row, -1, 0.0
        while current >= 0:
            through = length + cost[current] - row_prices[current] - column_prices
            closer = ~done & (through < shortest)
            shortest[closer], before[closer] = through[closer], column
            column = int(np.where(done, np.inf, shortest).argmin())
            length = float(shortest[column])
            done[column] = True
            current = int(row_of[column])
        # With these prices no reduced cost is below 0, and those along the path are 0.
        visited = done & (shortest < length)
        row_prices[row] += length
        row_prices[row_of[visited]] += length - shortest[visited]
        column_prices[visited] -= length - shortest[visited]
        while column >= 0:  # turn the path around: each of its rows takes the next column
            previous = int(before[column])
            row_of[column] = row if previous < 0 else row_of[previous]
            column = previous
    return {
        int(row_of[column]): column
        for column in range(num_columns)
        if row_of[column] >= 0 and gains[row_of[column], column] > 0
    }
