"""One rank's batches as Lightning should take them: as they are."""

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Generic, TypeVar, cast

from torch.utils.data import DataLoader

BatchType = TypeVar("BatchType")


class RankLoader(Generic[BatchType]):
    """A loader that has been cut for this rank already.

    Not a ``DataLoader`` itself: Lightning would replace a DataLoader's sampler when there are
    several processes. The two state methods tell it that a resume in the middle of an epoch is
    taken care of.
    """

    def __init__(self, loader: "DataLoader[Any]") -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[BatchType]:
        for batch in self._loader:
            yield cast(BatchType, batch)

    @property
    def _iterator(self) -> object:
        """The iterator whose worker processes Lightning ends when the fit ends, also by an error.

        Left to the garbage collector, they may lose their queue first and are waited for in vain.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, value: None) -> None:
        self._loader._iterator = value

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the data module's state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore; see :meth:`state_dict`."""


def leave_signals_to_the_run(worker: int) -> None:
    """A ``worker_init_fn``: the run decides when its workers end, not whoever signals all of them.

    A scheduler signals all processes of a job, and the step in hand still needs its batches. torch
    would have a worker end by a SIGTERM that does not come from its parent. A second one ends it
    still: that is how a worker which hangs is ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _survive_one)


def _survive_one(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
