"""The mixture and its order: exact shares, nothing lost, and the same order for any number of
ranks."""

from collections import Counter

import numpy as np
import pytest

from data_modules.global_order import GlobalOrder, GlobalOrderBatchSampler, accumulation


def order(sizes: list[int], weights: list[float] | None = None, batch: int = 4) -> GlobalOrder:
    return GlobalOrder(sizes, weights or [1.0] * len(sizes), global_batch_size=batch, seed=3)


def test_one_corpus_is_shown_once_an_epoch_in_another_order() -> None:
    whole = order([12])
    assert (whole.samples_per_epoch, whole.steps_per_epoch) == (12, 3)
    first, second = whole.epoch(0), whole.epoch(1)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert first.tolist() == order([12]).epoch(0).tolist()


def test_an_epoch_is_rounded_up_to_whole_steps_and_no_example_falls_behind() -> None:
    whole = order([10])
    assert whole.samples_per_epoch == 12
    shown: Counter[int] = Counter()
    for epoch in range(7):
        shown.update(whole.epoch(epoch).tolist())
        counts = [shown[index] for index in range(10)]
        assert max(counts) - min(counts) <= 1
    assert shown.total() == 84


def test_weights_are_passes_an_epoch_and_exact() -> None:
    # 20 x 0.5 + 8 x 2 + 6 x 1 = 32 samples.
    mixed = order([20, 8, 6], [0.5, 2.0, 1.0])
    assert (mixed.samples_per_epoch, mixed.quotas) == (32, [10, 16, 6])
    halves = [set(mixed.epoch(epoch)[mixed.epoch(epoch) < 20].tolist()) for epoch in range(2)]
    assert halves[0] | halves[1] == set(range(20))
    assert not halves[0] & halves[1]
    counts = Counter(mixed.epoch(0).tolist())
    assert all(counts[index] == 2 for index in range(20, 28))
    assert all(counts[index] == 1 for index in range(28, 34))


def test_lengths_order_the_samples_of_a_step_and_change_no_step() -> None:
    plain = order([24], batch=8)
    lengths = [(7 * index) % 24 for index in range(24)]
    ordered = GlobalOrder([24], [1.0], global_batch_size=8, seed=3, lengths=lengths)
    for epoch in range(2):
        before = plain.epoch(epoch).reshape(-1, 8)
        after = ordered.epoch(epoch).reshape(-1, 8)
        for step_before, step_after in zip(before, after, strict=True):
            assert sorted(step_before) == sorted(step_after)
            assert [lengths[index] for index in step_after] == sorted(
                lengths[index] for index in step_before
            )


def test_rounding_gives_each_corpus_its_share_to_one_sample() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(5, 60, size=3).tolist()
        weights = rng.choice([0.1, 0.5, 1.0, 1.7], size=3).tolist()
        mixed = order(sizes, weights, batch=16)
        wanted = np.multiply(sizes, weights)
        exact = wanted * mixed.samples_per_epoch / wanted.sum()
        assert sum(mixed.quotas) == mixed.samples_per_epoch
        assert np.abs(np.array(mixed.quotas) - exact).max() < 1
        assert 0 <= mixed.samples_per_epoch - wanted.sum() < 16


def test_samples_of_all_corpora_are_shuffled_together() -> None:
    mixed = order([500, 500], batch=10)
    shares = (mixed.epoch(0).reshape(-1, 100) < 500).mean(axis=1)
    assert shares.min() > 0.3
    assert shares.max() < 0.7


def test_0_1_of_30_is_3() -> None:
    assert order([30], [0.1], batch=1).samples_per_epoch == 3


@pytest.mark.parametrize(
    ("sizes", "weights", "batch", "message"),
    [
        ([], [], 4, "need at least one corpus"),
        ([5], [0.0], 4, "weight above 0"),
        ([5], [1.0], 0, "global_batch_size must be at least 1"),
        ([400, 5], [1.0, 0.01], 4, "corpus number 1 .* would get no sample"),
    ],
)
def test_errors(sizes: list[int], weights: list[float], batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalOrder(sizes, weights, global_batch_size=batch, seed=0)


def global_batches(
    whole: GlobalOrder, batch_size: int, world_size: int, position: tuple[int, int] = (0, 0)
) -> list[list[int]]:
    """What all ranks see, put together again step by step."""
    ranks = [
        list(
            GlobalOrderBatchSampler(
                whole,
                lambda: position,
                batch_size=batch_size,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]
    per_step = accumulation(whole.global_batch_size, batch_size, world_size)
    micro = [[index for rank in ranks for index in rank[k]] for k in range(len(ranks[0]))]
    return [
        [index for part in micro[start : start + per_step] for index in part]
        for start in range(0, len(micro), per_step)
    ]


@pytest.mark.parametrize(
    ("batch_size", "world_size"), [(12, 1), (2, 1), (6, 2), (1, 2), (4, 3), (2, 3)]
)
def test_any_number_of_ranks_sees_the_same_global_batches(batch_size: int, world_size: int) -> None:
    whole = order([50, 30], batch=12)
    expected = whole.epoch(0).reshape(-1, 12).tolist()
    assert global_batches(whole, batch_size, world_size) == expected
    resumed = global_batches(whole, batch_size, world_size, position=(0, 36))
    assert resumed == expected[3:]
    assert global_batches(whole, batch_size, world_size, (1, 0)) == (
        whole.epoch(1).reshape(-1, 12).tolist()
    )


def test_the_length_is_that_of_the_whole_epoch_wherever_it_starts() -> None:
    sampler = GlobalOrderBatchSampler(order([24]), lambda: (0, 20), batch_size=2, world_size=2)
    assert len(sampler) == 6
    assert len(list(sampler)) == 1


def test_a_global_batch_that_cannot_be_cut_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 is not a multiple of batch_size 3 x 2 processes"):
        accumulation(8, 3, 2)
