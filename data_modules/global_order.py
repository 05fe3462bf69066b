"""The order of all training samples: a pure function of seed, epoch and the corpora's sizes.

The order knows nothing of ranks, worker processes or accumulation. These only cut it: step ``s`` of
an epoch holds its samples ``s * global_batch_size`` onwards, whatever the number of ranks, so a run
continues on any machine. Any step is computed by itself, so that it continues at once.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from data_modules.block_shuffle import VERSION, BlockShuffle, shuffled

_PASS, _STEP = 0, 1  # what an order is for; keeps those of one seed apart
_GOLDEN_RATIO = (5**0.5 - 1) / 2  # no fraction is as far from all simple ones


class GlobalOrder:
    """The mixture and its order.

    An epoch holds ``sum(weight_i * size_i)`` samples, rounded up to whole global batches, so every
    optimizer step has the same number of samples. Corpus i's share of them is ``weight_i *
    size_i``, exact to one sample (largest remainder), the same in every epoch; within an epoch its
    samples are spread evenly: of the first t samples of an epoch, of N, its own are ``t * share_i /
    N`` to within ``(1 + number of corpora) / 2``.

    Each corpus is read as an endless row of passes; each pass holds every example once in an order
    of its own (:class:`data_modules.block_shuffle.BlockShuffle`), and an epoch goes on where the
    epoch before stopped. So no example is left out: at any time the examples of a corpus have been
    shown equally often, to within one; and an epoch shows each exactly once if the weight is 1 and
    nothing had to be rounded.

    The samples of one step may stand in any order: its gradient is a sum over them. They are dealt
    out so that any stretch of them has short ones and long ones in the proportion of the step: what
    ranks and micro-batches cut from it takes them about the same time and memory (measured on 1,024
    lognormal lengths in micro-batches of 64: the longest has 1.06 times the mean number of tokens;
    1.2 times in random order, 3.2 in the order of their lengths). Where rows are
    padded, they are put in the order of their lengths instead: micro-batches of similar lengths
    hold less padding (measured on the microworld's stage 2: 128 tokens a row in one batch of 32, 86
    in four micro-batches of 8).

    Args:
        corpus_sizes: Number of examples of each corpus.
        weights: Passes through each corpus an epoch.
        global_batch_size: Samples an optimizer step, over all ranks and micro-batches.
        seed: Not negative.
        lengths: From indices into the concatenated corpora to lengths of these examples, in any
            unit; None to leave the samples of a step in random order.
        padded: Whether rows of a micro-batch are padded to the longest.
        repeated_steps: Let every epoch be this many first steps of epoch 0, for a look at whether
            a model can learn them by heart. None for all samples.

    Raises:
        ValueError: A corpus would get no sample an epoch, or a value is out of range.
    """

    def __init__(
        self,
        corpus_sizes: Sequence[int],
        weights: Sequence[float],
        *,
        global_batch_size: int,
        seed: int,
        lengths: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None,
        padded: bool = False,
        repeated_steps: int | None = None,
    ) -> None:
        assert min(corpus_sizes) >= 1
        assert min(weights) > 0
        self.corpus_sizes = list(corpus_sizes)
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.lengths = lengths
        self.padded = padded
        wanted = [weight * size for weight, size in zip(weights, self.corpus_sizes, strict=True)]
        # Rounded before the ceiling: 0.1 * 30 is 3.0000000000000004 and must not become a fourth
        # sample.
        num_samples = round(sum(wanted), 6)
        self.steps_per_epoch = int(np.ceil(num_samples / global_batch_size))
        self.quotas = _largest_remainder(wanted, self.steps_per_epoch * global_batch_size)
        if 0 in self.quotas:
            corpus = self.quotas.index(0)
            raise ValueError(
                f"corpus number {corpus} ({self.corpus_sizes[corpus]} examples, weight "
                f"{weights[corpus]}) would get no sample of the {sum(self.quotas)} an epoch holds: "
                "raise its weight or take it off the list"
            )
        self.repeated_steps = repeated_steps
        if repeated_steps is not None:
            self.steps_per_epoch = min(self.steps_per_epoch, repeated_steps)
        self.samples_per_epoch = self.steps_per_epoch * global_batch_size
        # A step lies in two passes of each corpus at most, unless one is tiny.
        self._pass = lru_cache(2 * len(corpus_sizes))(self._shuffle)

    @property
    def identity(self) -> dict[str, Any]:
        """The sources of the order, in the terms of a checkpoint: equal if the order is."""
        return {
            "form": VERSION,
            "corpus_sizes": list(self.corpus_sizes),
            "samples_of_each_an_epoch": list(self.quotas),
            "global_batch_size": self.global_batch_size,
            "seed": self.seed,
            **({} if self.repeated_steps is None else {"repeated_steps": self.repeated_steps}),
        }

    def step(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The samples of one step: indices into the concatenated corpora ``(global_batch_size,)``.

        The work does not depend on the position; what steps side by side have in common is kept.
        """
        if self.repeated_steps is not None:
            epoch = 0
        # What each corpus has given before this step, and after it.
        starts = spread(self.quotas, step * self.global_batch_size)
        stops = spread(self.quotas, (step + 1) * self.global_batch_size)
        # Rows of each corpus -> indices into all of them, (global_batch_size,).
        offsets = np.cumsum([0, *self.corpus_sizes[:-1]])
        indices = np.concatenate(
            [
                offsets[corpus] + self._stream(corpus, epoch * quota + start, epoch * quota + stop)
                for corpus, (quota, start, stop) in enumerate(
                    zip(self.quotas, starts, stops, strict=True)
                )
            ]
        )
        # Random order within the step; then by length, or with lengths spread evenly.
        indices = indices[shuffled(len(indices), self.seed, _STEP, epoch, step)]
        if self.lengths is None:
            return indices
        by_length = indices[np.argsort(self.lengths(indices), kind="stable")]
        return by_length if self.padded else by_length[even_ranks(len(indices))]

    def _stream(self, corpus: int, start: int, stop: int) -> NDArray[np.int64]:
        """Items ``start`` to ``stop`` of the corpus' endless row of passes."""
        size = self.corpus_sizes[corpus]
        parts = [np.zeros(0, np.int64)]
        while start < stop:
            number, first = divmod(start, size)  # which pass, and how far into it
            end = min(stop - number * size, size)
            parts.append(self._pass(corpus, number).rows(first, end))
            start = number * size + end
        return np.concatenate(parts)

    def _shuffle(self, corpus: int, number: int) -> BlockShuffle:
        return BlockShuffle(self.corpus_sizes[corpus], self.seed, _PASS, corpus, number)


class GlobalOrderBatchSampler(Sampler[list[int]]):
    """This rank's micro-batches of an epoch, from the current position on.

    ``len()`` is the whole epoch's number of micro-batches, because Lightning counts from the
    epoch's start also after a resume; iteration starts at the position.

    Args:
        order: The global order.
        position: Called when an iteration starts; returns ``(epoch, samples consumed over all
            ranks)``.
        batch_size: Samples a micro-batch on one rank; times ``world_size`` it divides the global
            batch.
        rank: This process, from 0.
        world_size: Number of processes.
    """

    def __init__(
        self,
        order: GlobalOrder,
        position: Callable[[], tuple[int, int]],
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        accumulation(order.global_batch_size, batch_size, world_size)
        self.order = order
        self.position = position
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.order.samples_per_epoch // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, consumed = self.position()
        at_once = self.batch_size * self.world_size
        first_step, consumed_of_step = divmod(consumed, self.order.global_batch_size)
        for step in range(first_step, self.order.steps_per_epoch):
            indices = self.order.step(epoch, step)
            for start in range(consumed_of_step, len(indices), at_once):
                first = start + self.rank * self.batch_size
                # All ranks share a stretch of the order, one micro-batch after the other.
                yield indices[first : first + self.batch_size].tolist()
            # Only the first step may have been begun before.
            consumed_of_step = 0


def even_ranks(count: int) -> NDArray[np.int64]:
    """The numbers below ``count`` in an order of which any stretch is spread evenly over them.

    Multiples of the golden ratio less their whole parts are such a row of fractions; these are
    their ranks.
    """
    # (count,) fractions in [0, 1)
    fractions = np.modf(np.arange(1, count + 1) * _GOLDEN_RATIO)[0]
    # The rank of each fraction: of any few neighbours the fractions are spread evenly, and so are
    # the ranks.
    return np.argsort(np.argsort(fractions))


def accumulation(global_batch_size: int, batch_size: int, world_size: int) -> int:
    """Micro-batches an optimizer step.

    Raises:
        ValueError: The global batch is no multiple of what all ranks take at once.
    """
    at_once = batch_size * world_size
    if global_batch_size % at_once:
        raise ValueError(
            f"global_batch_size {global_batch_size} is not a multiple of batch_size {batch_size} x "
            f"{world_size} processes: change one of them, or the number of devices"
        )
    return global_batch_size // at_once


def spread(quotas: Sequence[int], count: int) -> list[int]:
    """Count the samples of each corpus among the first ``count``, if they are spread evenly.

    Item k of a corpus of n comes at the moment (2 k + 1) / 2 n of the epoch; at equal moments, the
    corpus listed first (Webster's method). So the numbers only grow with ``count``, and reach the
    quotas at its end. Exact at any position, without looking at those before.
    """
    total = sum(quotas)
    # What had come when ``count / total`` of the epoch was over; few corrections are left to do.
    counts = [(2 * count * quota + total) // (2 * total) for quota in quotas]

    def moment(corpus: int, item: int) -> tuple[Fraction, int]:
        return Fraction(2 * item + 1, 2 * quotas[corpus]), corpus

    corpora = range(len(quotas))
    while sum(counts) > count:
        last = max((c for c in corpora if counts[c]), key=lambda c: moment(c, counts[c] - 1))
        counts[last] -= 1
    while sum(counts) < count:
        following = min(
            (c for c in corpora if counts[c] < quotas[c]), key=lambda c: moment(c, counts[c])
        )
        counts[following] += 1
    return counts


def _largest_remainder(wanted: Sequence[float], total: int) -> list[int]:
    exact = np.asarray(wanted, dtype=np.float64) * (total / sum(wanted))
    # Rounded first, so that 2.9999999999999996 counts as the 3 it is.
    counts = np.floor(np.round(exact, 6)).astype(np.int64)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]
