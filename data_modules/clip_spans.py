"""Spans of clips, as arithmetic: stretches of a video are cut into clips, and shares are dealt out.

Times are whole milliseconds and random numbers whole 64-bit ones, so that the same seed gives the
same clips on every machine.
"""

import hashlib
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_modules.rows import Span

Stretch = tuple[int, int]
"""Start and end in milliseconds."""

MAX_VIDEO_SECONDS = 7 * 86_400
"""A longer recording is none: its times are wrong. It bounds what cutting it takes."""


def seeded_hash(*parts: object) -> int:
    """A number from 0 to 2^64 - 1 that follows from texts and numbers, the same everywhere."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def stretch_of(start_seconds: float, end_seconds: float) -> Stretch:
    """The whole milliseconds inside of a span."""
    return math.ceil(start_seconds * 1000), math.floor(end_seconds * 1000)


def cut_stretches(
    stretches: Iterable[Stretch], shortest: int, longest: int, seed: int
) -> list[Stretch]:
    """Cut stretches into clips that follow each other.

    A stretch that is no longer than the longest clip is one clip. Of a longer one, lengths are
    drawn between shortest and longest; what remains at the end is a clip too, or, where it is
    shorter than the shortest, divided between start and end by chance.

    Args:
        stretches: In milliseconds; those shorter than ``shortest`` give no clip.
        shortest: Shortest clip in milliseconds, above 0.
        longest: Longest clip in milliseconds.
        seed: Of the draw, from 0 to 2^64 - 1.
    """
    clips: list[Stretch] = []
    for number, (start, end) in enumerate(stretches):
        length = end - start
        if length <= longest:
            if length >= shortest:
                clips.append((start, end))
            continue
        # One number for where the first clip begins, and one for each length that could fit.
        drawn = _random_numbers(seed, number, length // shortest + 2)
        # Lengths from shortest to longest, one after the other, as far as they end within the
        # stretch.
        ends = np.cumsum(shortest + (drawn[1:] % (longest - shortest + 1)).astype(np.int64))
        edges = [0, *ends[ends <= length].tolist()]
        # What is left is a clip too; if too short, a random part of it lies before the first clip.
        remainder = length - edges[-1]
        if remainder >= shortest:
            edges.append(length)
            remainder = 0
        first = start + int(drawn[0] % np.uint64(remainder + 1))
        clips += [(first + one, first + other) for one, other in pairwise(edges)]
    return clips


def random_order(number: int, seed: int) -> list[int]:
    """The numbers from 0 to ``number - 1``, shuffled."""
    # A stream of its own: others draw lengths.
    return [int(index) for index in np.argsort(_random_numbers(seed, 2**32, number), kind="stable")]


def _random_numbers(seed: int, stream: int, number: int) -> NDArray[np.uint64]:
    """Raw output of PCG64, which numpy keeps the same over versions, unlike its distributions."""
    drawn: NDArray[np.uint64] = np.random.PCG64([seed, stream]).random_raw(number)
    return drawn


def disjoint(spans: Iterable[Span], seed: int) -> list[Span]:
    """Spans of one video of which no two overlap, taken in an order that the seed shuffles.

    Args:
        spans: Different ones. A start that is None is 0, an end that is None after all others.
        seed: From 0 to 2^64 - 1.

    Returns:
        Some of them, in the order of time.
    """
    taken: list[tuple[float, float]] = []
    result: dict[tuple[float, float], Span] = {}
    for span in sorted(spans, key=lambda span: seeded_hash(seed, *span)):
        start = 0.0 if span[0] is None else span[0]
        end = math.inf if span[1] is None else span[1]
        after = bisect_left(taken, (start, end))
        follows = after == 0 or taken[after - 1][1] <= start  # the one before has ended
        if follows and (after == len(taken) or end <= taken[after][0]):
            insort(taken, (start, end))
            result[start, end] = span
    return [result[key] for key in taken]


def deal_out(total: int, capacities: Sequence[int], weights: Sequence[float] = ()) -> list[int]:
    """Share out a number as evenly as capacities allow, by weights.

    Who has a smaller capacity than an even share is dealt that, and the others share the rest.
    What does not divide goes to the largest remainders, and of equal ones to the first.

    Args:
        total: The number; where all capacities together are less, they are dealt out.
        capacities: Most that each can be dealt.
        weights: Above 0; all the same if empty.
    """
    # Fractions, so that shares are the same on every machine.
    exact = [Fraction(str(weight)) for weight in weights or [1] * len(capacities)]
    denominator = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * denominator) for weight in exact]
    total = min(total, sum(capacities))
    common = math.lcm(*whole)
    order = sorted(range(len(capacities)), key=lambda n: capacities[n] * (common // whole[n]))
    shares = [0] * len(capacities)
    rest, weight = total, sum(whole)
    for position, number in enumerate(order):
        # Of the smallest capacities by weight: is an even share more?
        if capacities[number] * weight > rest * whole[number]:
            remaining = sorted(order[position:])
            break
        shares[number] = capacities[number]
        rest -= capacities[number]
        weight -= whole[number]
    else:
        return shares
    for number in remaining:
        shares[number] = rest * whole[number] // weight
    left = rest - sum(shares[number] for number in remaining)
    by_remainder = sorted(remaining, key=lambda n: -(rest * whole[n] % weight))
    for number in by_remainder[:left]:
        shares[number] += 1
    return shares
