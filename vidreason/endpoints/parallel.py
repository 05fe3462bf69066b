"""Requests in parallel, in a bounded number of threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(
    send: Callable[[T], R], items: Iterable[T], num_threads: int, close: Callable[[], object]
) -> list[R]:
    """Return the results in the order of ``items``; at the first error no further one is begun.

    Args:
        send: Called for each item, in one of the threads.
        items: What is sent.
        num_threads: Requests at a time.
        close: Ends the requests under way, which a program that is told to stop does not wait for.
    """
    pool = ThreadPoolExecutor(num_threads)
    try:
        return list(pool.map(send, items))
    except (KeyboardInterrupt, SystemExit):
        close()
        raise
    finally:
        # Waits for what is under way, and begins nothing more.
        pool.shutdown(cancel_futures=True)
