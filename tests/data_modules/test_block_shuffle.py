"""The lazy shuffle: each row once, the same from wherever one begins, and files read forward."""

import numpy as np
import pytest

import data_modules.block_shuffle as block_shuffle
from data_modules.block_shuffle import BlockShuffle, shuffled


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of at most 8 rows, 4 of them a window: 25 rows have 4 blocks and more."""
    for name, value in (("MAX_BLOCK_ROWS", 8), ("WINDOW_ROWS", 32), ("MIN_BLOCKS", 4)):
        monkeypatch.setattr(block_shuffle, name, value)


@pytest.mark.usefixtures("small")
def test_each_row_comes_once_and_any_piece_can_be_had_alone() -> None:
    random = np.random.default_rng(0)
    for num_rows in [*range(1, 80), 255, 256, 257, 1000]:
        whole = BlockShuffle(num_rows, 1, 2).rows(0, num_rows)
        assert sorted(whole.tolist()) == list(range(num_rows))
        for _ in range(5):
            start, stop = sorted(random.integers(0, num_rows + 1, 2).tolist())
            piece = BlockShuffle(num_rows, 1, 2).rows(start, max(stop, start + 1))
            assert piece.tolist() == whole[start : max(stop, start + 1)].tolist()


@pytest.mark.parametrize("num_rows", [4095, 8192, 8193, 100_003])
def test_each_row_comes_once_at_full_size(num_rows: int) -> None:
    whole = BlockShuffle(num_rows, 7).rows(0, num_rows)
    assert np.array_equal(np.sort(whole), np.arange(num_rows))
    assert not np.array_equal(whole, BlockShuffle(num_rows, 8).rows(0, num_rows))


def test_a_window_is_read_forward_in_each_block_and_neighbours_come_apart() -> None:
    num_rows, window = 3_000_000, block_shuffle.WINDOW_ROWS
    shuffle = BlockShuffle(num_rows, 3)
    for number in (0, 17, 40):
        rows = shuffle.rows(number * window, (number + 1) * window)
        blocks = rows // block_shuffle.MAX_BLOCK_ROWS
        assert len(set(blocks.tolist())) == window // block_shuffle.MAX_BLOCK_ROWS == 64
        for sweep in np.split(np.arange(window), block_shuffle.NUM_SWEEPS):
            for block in set(blocks.tolist()):
                assert (np.diff(rows[sweep][blocks[sweep] == block]) > 0).all()
        # Rows side by side in a file are within 256 samples only if they share a sweep.
        position = dict(zip(rows.tolist(), range(window), strict=True))
        apart = [abs(position[row + 1] - at) for row, at in position.items() if row + 1 in position]
        assert np.mean(np.array(apart) < 256) < 1.1 / block_shuffle.NUM_SWEEPS


def test_a_small_corpus_is_shuffled_plainly() -> None:
    rows = BlockShuffle(2000, 5).rows(0, 2000)
    assert abs(np.corrcoef(rows, np.arange(2000))[0, 1]) < 0.06
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 0.06


def test_the_order_is_of_this_project_and_does_not_change() -> None:
    # Recorded when it was written. Whoever changes it changes VERSION, too.
    assert shuffled(10, 3, 1).tolist() == [2, 7, 3, 6, 4, 1, 9, 8, 5, 0]
    rows = BlockShuffle(5_000_000, 3, 0, 1).rows(4_000_000, 4_000_004)
    assert rows.tolist() == [1331303, 3722809, 143922, 3293256]
    assert block_shuffle.VERSION == "blocks-512-32768-16-4096"
    assert shuffled(0, 1).tolist() == []


def test_shuffles_of_different_keys_have_nothing_in_common() -> None:
    first = np.stack([shuffled(200, 0, key) for key in range(300)])
    # Any number may come anywhere: the mean position of each is the middle, to 5 standard errors.
    assert np.abs(first.mean(axis=0) - 99.5).max() < 5 * 57.7 / 300**0.5
    fixed = (first[1:] == first[:-1]).mean()
    assert fixed < 0.01
