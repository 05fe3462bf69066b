import itertools

import numpy as np
import pytest
import torch

from vidreason.perception.object_tracks import (
    KeyFrameObjects,
    TrackConfig,
    best_matches,
    mask_overlaps,
    track_objects,
)

SIDE, WIDTH = 12, 6


def key_frame(*objects: tuple[int, int, int]) -> KeyFrameObjects:
    """Squares of 4 pixels given as (left, top, what it looks like)."""
    masks = torch.zeros(len(objects), SIDE, SIDE, dtype=torch.bool)
    tokens = torch.zeros(len(objects), WIDTH)
    for index, (left, top, looks) in enumerate(objects):
        masks[index, top : top + 4, left : left + 4] = True
        tokens[index, looks] = 1.0
    return KeyFrameObjects(masks=masks, tokens=tokens)


def track(*key_frames: KeyFrameObjects, **changes) -> list[list[int]]:
    return track_objects(key_frames, TrackConfig(**changes))


def test_an_object_that_moves_far_is_known_by_its_looks():
    assert track(key_frame((0, 0, 1), (8, 8, 2)), key_frame((0, 0, 2), (8, 0, 1))) == [
        [0, 1],
        [1, 0],
    ]


def test_things_that_look_the_same_are_known_by_their_positions():
    here, there = (0, 0, 1), (8, 8, 1)
    assert track(key_frame(here, there), key_frame(there, here)) == [[0, 1], [1, 0]]
    assert track(key_frame(here, there), key_frame((7, 8, 1), (1, 0, 1))) == [[0, 1], [1, 0]]


def test_what_is_new_gets_a_new_id_even_where_another_was():
    assert track(key_frame((0, 0, 1)), key_frame((0, 0, 2)), key_frame((0, 0, 3))) == [
        [0],
        [1],
        [2],
    ]


def test_an_object_is_found_again_after_one_key_frame_without_it_but_not_after_two():
    ball, other = (0, 0, 1), (8, 8, 2)
    assert track(key_frame(ball), key_frame(other), key_frame(ball, other)) == [[0], [1], [0, 1]]
    assert track(key_frame(ball), key_frame(), key_frame(ball)) == [[0], [], [0]]
    assert track(key_frame(ball), key_frame(), key_frame(), key_frame(ball)) == [[0], [], [], [1]]


def test_masks_of_the_same_pixels_are_one_object_and_parts_are_not():
    frame = key_frame((0, 0, 1), (0, 0, 2), (2, 0, 1), (8, 8, 3))
    assert track(frame) == [[0, 0, 1, 2]]
    assert track(frame, key_frame((6, 6, 2)))[1] == [0]
    assert track(frame, same_object_overlap=0.2) == [[0, 0, 0, 1]]


def test_a_video_without_objects_has_no_tracks():
    assert track() == []
    assert track(key_frame(), key_frame()) == [[], []]


def test_the_order_of_masks_does_not_change_which_objects_are_one():
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        frames, shuffled, orders = [], [], []
        for _ in range(4):
            count = int(torch.randint(0, 6, (), generator=generator))
            masks = torch.rand(count, 5, 5, generator=generator) < 0.5
            tokens = torch.randn(count, 3, generator=generator)
            order = torch.randperm(count, generator=generator)
            frames.append(KeyFrameObjects(masks=masks, tokens=tokens))
            shuffled.append(KeyFrameObjects(masks=masks[order], tokens=tokens[order]))
            orders.append(order.tolist())
        expected = track(*frames)
        actual = [
            [ids[order.index(index)] for index in range(len(ids))]
            for ids, order in zip(track(*shuffled), orders, strict=True)
        ]
        flat = list(zip(itertools.chain(*expected), itertools.chain(*actual), strict=True))
        # The same partition: ids correspond one to one.
        assert len(set(flat)) == len({a for a, _ in flat}) == len({b for _, b in flat})


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "ties"])
def test_matching_is_optimal(integers):
    generator = np.random.default_rng(0)
    for _ in range(150):
        rows, columns = generator.integers(0, 5, 2)
        gains = generator.normal(size=(rows, columns))
        if integers:
            gains = np.round(2 * gains)
        matched = best_matches(gains)
        assert len(set(matched.values())) == len(matched)
        assert all(gains[pair] > 0 for pair in matched.items())
        choices = [*range(columns), *[-1] * rows]
        best = max(
            sum(max(gains[row, column], 0.0) for row, column in enumerate(chosen) if column >= 0)
            for chosen in set(itertools.permutations(choices, int(rows)))
        )
        assert sum(gains[pair] for pair in matched.items()) == pytest.approx(best)


def test_overlap_is_the_share_of_common_pixels():
    first = key_frame((0, 0, 0), (4, 4, 0)).masks
    second = key_frame((0, 2, 0), (8, 8, 0), (4, 4, 0)).masks
    expected = torch.tensor([[8 / 24, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(mask_overlaps(first, second), expected)


@pytest.mark.parametrize("field", ["overlap_weight", "min_likeness", "same_object_overlap"])
def test_shares_outside_of_their_range_are_refused(field):
    with pytest.raises(
        ValueError, match=rf"tracks\.{field} is 1\.5; it must be above 0 and at most 1"
    ):
        TrackConfig(**{field: 1.5})
