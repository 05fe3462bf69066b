"""The mixture and its order: exact shares, nothing lost, and the same order for any number of
ranks."""

from collections import Counter

import numpy as np
import pytest

from data_modules.global_order import (
    GlobalOrder,
    GlobalOrderBatchSampler,
    accumulation,
    even_ranks,
    spread,
)


def order(sizes: list[int], weights: list[float] | None = None, batch: int = 4) -> GlobalOrder:
    return GlobalOrder(sizes, weights or [1.0] * len(sizes), global_batch_size=batch, seed=3)


def epoch(whole: GlobalOrder, number: int) -> np.ndarray:
    return np.concatenate([whole.step(number, step) for step in range(whole.steps_per_epoch)])


def test_one_corpus_is_shown_once_an_epoch_in_another_order() -> None:
    whole = order([12])
    assert (whole.samples_per_epoch, whole.steps_per_epoch) == (12, 3)
    first, second = epoch(whole, 0), epoch(whole, 1)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert first.tolist() == epoch(order([12]), 0).tolist()


def test_an_epoch_is_rounded_up_to_whole_steps_and_no_example_is_left_out() -> None:
    whole = order([10])
    assert whole.samples_per_epoch == 12
    shown: Counter[int] = Counter()
    for number in range(7):
        shown.update(epoch(whole, number).tolist())
        counts = [shown[index] for index in range(10)]
        assert max(counts) - min(counts) <= 1
    assert shown.total() == 84


@pytest.mark.parametrize("size", [1, 3])
def test_a_corpus_smaller_than_a_step_is_repeated_evenly(size: int) -> None:
    whole = order([size], batch=8)
    assert (whole.samples_per_epoch, whole.steps_per_epoch) == (8, 1)
    shown: Counter[int] = Counter()
    for number in range(5):
        shown.update(epoch(whole, number).tolist())
        counts = [shown[index] for index in range(size)]
        assert max(counts) - min(counts) <= 1
    assert shown.total() == 40
    assert global_batches(whole, 2, 2, (3, 0)) == [epoch(whole, 3).tolist()]


def test_a_corpus_of_one_example_in_a_mixture() -> None:
    mixed = order([30, 1], batch=4)
    assert mixed.quotas == [31, 1]
    for number in range(3):
        assert Counter(epoch(mixed, number).tolist())[30] == 1
    assert order([1, 30], batch=4).identity != mixed.identity


def test_weights_are_passes_an_epoch_and_exact() -> None:
    # 20 x 0.5 + 8 x 2 + 6 x 1 = 32 samples.
    mixed = order([20, 8, 6], [0.5, 2.0, 1.0])
    assert (mixed.samples_per_epoch, mixed.quotas) == (32, [10, 16, 6])
    halves = [set(epoch(mixed, n)[epoch(mixed, n) < 20].tolist()) for n in range(2)]
    assert halves[0] | halves[1] == set(range(20))
    assert not halves[0] & halves[1]
    counts = Counter(epoch(mixed, 0).tolist())
    assert all(counts[index] == 2 for index in range(20, 28))
    assert all(counts[index] == 1 for index in range(28, 34))


def test_lengths_order_the_samples_of_a_step_and_change_no_step() -> None:
    plain = order([24], batch=8)
    lengths = np.array([(7 * index) % 24 for index in range(24)])
    ordered = GlobalOrder(
        [24], [1.0], global_batch_size=8, seed=3, lengths=lengths.__getitem__, padded=True
    )
    for number in range(2):
        before = epoch(plain, number).reshape(-1, 8)
        after = epoch(ordered, number).reshape(-1, 8)
        for step_before, step_after in zip(before, after, strict=True):
            assert sorted(step_before) == sorted(step_after)
            assert [lengths[index] for index in step_after] == sorted(
                lengths[index] for index in step_before
            )


def test_micro_batches_are_about_as_long_as_each_other_where_nothing_is_padded() -> None:
    lengths = np.random.default_rng(0).lognormal(4, 0.7, size=4096)
    plain = order([4096], batch=1024)
    even = GlobalOrder([4096], [1.0], global_batch_size=1024, seed=3, lengths=lengths.__getitem__)
    for number in range(4):
        assert sorted(even.step(0, number)) == sorted(plain.step(0, number))
    for size in (16, 32, 128):  # powers of two, unlike the ratio that the samples are dealt by
        dealt, random = (
            lengths[epoch(kind, 0)].reshape(4, -1, size).sum(axis=2).std(axis=1).mean()
            for kind in (even, plain)
        )
        assert dealt < 0.7 * random
    assert sorted(even_ranks(7)) == list(range(7))
    assert even_ranks(0).tolist() == []


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
    shares = (epoch(mixed, 0).reshape(-1, 100) < 500).mean(axis=1)
    assert shares.min() > 0.3
    assert shares.max() < 0.7


def test_a_mixture_is_spread_evenly_over_an_epoch() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        quotas = rng.integers(1, 60, size=rng.integers(1, 6)).tolist()
        counts = np.array([spread(quotas, count) for count in range(sum(quotas) + 1)])
        assert counts.sum(axis=1).tolist() == list(range(sum(quotas) + 1))
        assert counts[-1].tolist() == quotas
        assert np.diff(counts, axis=0).min() >= 0  # each further sample is one corpus' next
        even = np.arange(len(counts))[:, None] * np.array(quotas) / sum(quotas)
        assert np.abs(counts - even).max() <= (1 + len(quotas)) / 2


def test_steps_of_a_mixture_are_those_of_one_order_wherever_one_begins() -> None:
    sizes, weights = [9_000, 40, 700], [0.7, 3.0, 1.0]
    whole = order(sizes, weights, batch=12)
    steps = [(number, step) for number in range(2) for step in range(whole.steps_per_epoch)]
    expected = {at: whole.step(*at).tolist() for at in steps}
    shares = [np.searchsorted([9_000, 9_040], step, side="right") for step in expected.values()]
    counts = np.array([np.bincount(share, minlength=3) for share in shares])
    assert np.abs(counts - 12 * np.array(whole.quotas) / whole.samples_per_epoch).max() <= 4
    for at in np.random.default_rng(0).permutation(steps)[:40].tolist():
        assert order(sizes, weights, batch=12).step(*at).tolist() == expected[tuple(at)]


def test_the_identity_tells_orders_apart() -> None:
    same = order([30, 10], [1.0, 0.5]).identity
    assert order([30, 10], [1.0, 0.5]).identity == same
    for other in (order([30, 11], [1.0, 0.5]), order([30, 10]), order([30, 10], [1.0, 0.5], 8)):
        assert other.identity != same


def test_0_1_of_30_is_3() -> None:
    assert order([30], [0.1], batch=1).samples_per_epoch == 3


def test_a_corpus_that_would_get_no_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"corpus number 1 .* would get no sample"):
        order([400, 5], [1.0, 0.01], batch=4)


def global_batches(
    whole: GlobalOrder, batch_size: int, world_size: int, position: tuple[int, int] = (0, 0)
) -> list[list[int]]:
    """The samples of all ranks, put together again step by step."""
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
    expected = epoch(whole, 0).reshape(-1, 12).tolist()
    assert global_batches(whole, batch_size, world_size) == expected
    resumed = global_batches(whole, batch_size, world_size, position=(0, 36))
    assert resumed == expected[3:]
    assert global_batches(whole, batch_size, world_size, (1, 0)) == (
        epoch(whole, 1).reshape(-1, 12).tolist()
    )


def test_the_length_is_that_of_the_whole_epoch_wherever_it_starts() -> None:
    sampler = GlobalOrderBatchSampler(order([24]), lambda: (0, 20), batch_size=2, world_size=2)
    assert len(sampler) == 6
    assert len(list(sampler)) == 1


def test_a_global_batch_that_cannot_be_cut_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 is not a multiple of batch_size 3 x 2 processes"):
        accumulation(8, 3, 2)
