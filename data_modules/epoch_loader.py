"""Batches of a training set that is passed over epoch by epoch, as the baselines' are.

The order follows from seed and epoch, so that a run that resumes at the start of an epoch goes on
as if it had not been interrupted. Lightning tells a sampler which epoch begins (``set_epoch``).
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler, Sampler
from typing_extensions import override


class Samples(Protocol):
    """A data set with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401 - whatever a sample is


class NumpyOrder(Sampler[int]):
    """A permutation for each epoch, as numpy draws it.

    Args:
        samples: What is permuted.
        seed: Of all permutations.
    """

    def __init__(self, samples: Samples, seed: int) -> None:
        self._size = len(samples)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the permutation of an epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size

    @override
    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self._seed, self._epoch))
        yield from generator.permutation(self._size).tolist()


def torch_order(samples: Samples, seed: int) -> Sampler[int]:
    """Return a permutation for each epoch, as torch draws it."""
    order: DistributedSampler[Any] = DistributedSampler(
        samples,  # type: ignore[arg-type]  # only its length is used
        num_replicas=1,
        rank=0,
        seed=seed,
    )
    return order


def epoch_loader(
    samples: Samples,
    order: Sampler[int] | None = None,
    *,
    batch_size: int,
    seed: int,
    num_workers: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Return the batches of an epoch; the last one may have fewer samples.

    Args:
        samples: The data set.
        order: Of the samples; None for their own. Which of the two orders a baseline takes is part
            of its results.
        batch_size: Samples of a batch.
        seed: Of the loader's generator.
        num_workers: Processes that read samples; 0 reads in this one.
        collate: From samples to a batch; None for torch's own.
    """
    return DataLoader(
        samples,  # type: ignore[arg-type]  # only length and items are used
        batch_size,
        sampler=order,
        num_workers=num_workers,
        collate_fn=collate,
        # Its own, so that building a loader draws no number that a step would get.
        generator=torch.Generator().manual_seed(seed),
        # Data sets remember what they have learnt of a video, such as its index.
        persistent_workers=num_workers > 0,
    )
