"""A sample of videos that pass by: of each group those with the smallest hashes, in any order."""

from collections.abc import Iterator
from heapq import heappush, heapreplace
from typing import Generic, TypeVar

T = TypeVar("T")


class SmallestHashes(Generic[T]):
    """Entries of each group with the smallest hashes, up to a number.

    The same entries give the same sample, in whatever order they come.

    Args:
        num_most: Most entries of a group.
    """

    def __init__(self, num_most: int) -> None:
        self.num_most = num_most
        self._entries: dict[str, T] = {}
        self._heaps: dict[str, list[tuple[int, str]]] = {}  # hashes, negative: the largest is first

    def get(self, name: str) -> T | None:
        """The entry of a name, if it is in the sample."""
        return self._entries.get(name)

    def add(self, group: str, number: int, name: str, entry: T) -> None:
        """Take an entry into the sample, or not.

        Args:
            group: Its group.
            number: Its hash.
            name: Its name, under which none was added before but those that were left out.
            entry: What is returned for it.
        """
        heap = self._heaps.setdefault(group, [])
        if len(heap) < self.num_most:
            heappush(heap, (-number, name))
        # Smaller than the largest hash that is held, whose entry goes.
        elif -number > heap[0][0]:
            _, largest = heapreplace(heap, (-number, name))
            del self._entries[largest]
        else:
            return
        self._entries[name] = entry

    def __iter__(self) -> Iterator[tuple[str, T]]:
        yield from self._entries.items()
