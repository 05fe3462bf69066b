"""Cutting into clips, and dealing out shares: properties over many drawn cases."""

import random
from itertools import pairwise

import pytest

from data_modules.clip_spans import cut_stretches, deal_out, disjoint, random_order, seeded_hash
from data_modules.smallest_hashes import SmallestHashes


def test_clips_follow_each_other_within_their_stretch() -> None:
    generator = random.Random(0)
    starts, ends = [], []
    for case in range(300):
        shortest = generator.randrange(500, 5000)
        longest = shortest + generator.choice([0, 1, 700, 20_000])
        start = generator.randrange(0, 10_000)
        length = generator.choice([1, shortest - 1, shortest, longest, longest + 1, 60_000])
        clips = cut_stretches([(start, start + length)], shortest, longest, case)
        assert all(shortest <= b - a <= longest for a, b in clips)
        edges = [start, *(edge for clip in clips for edge in clip), start + length]
        assert edges == sorted(edges)
        # Less than one more clip is left over.
        assert length - sum(b - a for a, b in clips) < shortest
        assert all(b == a for (_, b), (a, _) in pairwise(clips))
        if clips and length > longest and shortest == longest:
            starts.append(clips[0][0] - start)
            ends.append(start + length - clips[-1][1])
    # What is left over is now at the start, now at the end.
    assert max(starts) > 0
    assert max(ends) > 0


def test_cutting_is_the_same_everywhere() -> None:
    """Written down once: whoever changes it changes every sample."""
    clips = cut_stretches([(0, 3000), (5000, 60_000)], 4000, 16_000, seeded_hash(7, "a"))
    assert clips[:2] == [(5000, 13439), (13439, 28096)]
    assert seeded_hash(0, "ego4d", "x") == 3167162930859996088
    assert random_order(6, 3) == [3, 5, 1, 2, 4, 0]


def test_shares_are_even_and_whole() -> None:
    generator = random.Random(1)
    for _ in range(500):
        capacities = [generator.choice([0, 1, 3, 10, 200]) for _ in range(generator.randrange(9))]
        total = generator.randrange(300)
        shares = deal_out(total, capacities)
        assert sum(shares) == min(total, sum(capacities))
        assert all(share <= most for share, most in zip(shares, capacities, strict=True))
        open_shares = [s for s, most in zip(shares, capacities, strict=True) if s < most]
        # Who has more to give is dealt no less than anybody, to within the remainder.
        if open_shares:
            assert max(shares) - min(open_shares) <= 1
            assert open_shares == sorted(open_shares, reverse=True)


@pytest.mark.parametrize(
    ("total", "capacities", "weights", "shares"),
    [
        (10, [100, 100], [1, 4], [2, 8]),
        (10, [100, 3], [1, 4], [7, 3]),
        (7, [100, 100, 100], [1, 1, 1], [3, 2, 2]),
        (100, [1, 2], [5, 1], [1, 2]),
        (0, [5], [1], [0]),
        (5, [], [], []),
    ],
)
def test_shares_by_weight(
    total: int, capacities: list[int], weights: list[int], shares: list[int]
) -> None:
    assert deal_out(total, capacities, weights) == shares


def test_disjoint_spans_do_not_depend_on_their_order() -> None:
    generator = random.Random(2)
    spans = [
        (None, 3.0),
        (90.0, None),
        *((a, a + generator.randrange(1, 9)) for a in (generator.random() * 90 for _ in range(60))),
    ]
    taken = disjoint(spans, 5)
    edges = [edge for start, end in taken for edge in (start or 0.0, end or 1e9)]
    assert edges == sorted(edges)
    assert taken == disjoint(reversed(spans), 5)
    # Nothing that was left out has room.
    for start, end in set(spans) - set(taken):
        assert any((s or 0) < (end or 1e9) and (start or 0) < (e or 1e9) for s, e in taken)
    assert len({tuple(disjoint(spans, seed)) for seed in range(20)}) > 1
    assert disjoint([(None, None), (1.0, 2.0)], 0) in ([(None, None)], [(1.0, 2.0)])


def test_the_smallest_hashes_of_each_group_are_held() -> None:
    entries = [(f"group {n % 3}", seeded_hash(n), f"name {n}") for n in range(300)]
    held = []
    for order in (entries, entries[::-1]):
        sample: SmallestHashes[str] = SmallestHashes(7)
        for group, number, name in order:
            sample.add(group, number, name, group)
        held.append(dict(sample))
    assert held[0] == held[1]
    smallest = sorted(number for group, number, _ in entries if group == "group 1")[:7]
    names = {name for _, number, name in entries if number in smallest}
    assert {name for name, group in held[0].items() if group == "group 1"} == names
