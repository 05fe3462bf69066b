"""Training in several processes, which share the batches of each step and sum their gradients.

The microworld's models are so small that a second thread gains them nothing, while a second process
learns 1.6 times as much in the same time (measured, two cores of an AMD EPYC).
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import distributed, nn

from vidreason.cores import available_cores


def process_rank() -> tuple[int, int]:
    """Return this process's number, from 0, and how many train together."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def processes_of(num_batches: int, limit: int | None) -> int:
    """Return how many processes can share ``num_batches`` evenly.

    Args:
        num_batches: Batches of a step.
        limit: The most processes; None for one a core, 0 or 1 for this one only.
    """
    limit = available_cores() if limit is None else max(limit, 1)
    return max(n for n in range(1, min(limit, num_batches) + 1) if num_batches % n == 0)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace gradients by their sums over all processes, in place.

    Args:
        parameters: The same ones in each process, with a gradient in all or in none.
    """
    if process_rank()[1] == 1:
        return
    gradients = [each.grad for each in parameters if each.grad is not None]
    # One message: there are hundreds of small ones.
    sizes = [gradient.numel() for gradient in gradients]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, total in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(total.view_as(gradient))


@contextmanager
def training_processes(
    number: int, work: Callable[..., object], *arguments: object
) -> Iterator[None]:
    """Let other processes train the same, while this one trains in the ``with`` block.

    Args:
        number: Processes with this one; for 1 there is nothing to do.
        work: What each of the others calls: a function of a module, which reads what it trains from
            files, since each process changes its own copy.
        arguments: Of ``work``; small, because they are pickled.

    Raises:
        RuntimeError: One of the others ended before this one was done.
    """
    if number == 1:
        yield
        return
    num_threads = torch.get_num_threads()
    # A process that was forked could not use its threads.
    context = get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        rendezvous = str(Path(folder) / "rendezvous")
        others = [
            context.Process(
                target=_train_too, args=(rank, number, rendezvous, work, arguments), daemon=False
            )
            for rank in range(1, number)
        ]
        for other in others:
            other.start()
        try:
            _join(0, number, rendezvous)
            yield
            for other in others:
                other.join()
        except RuntimeError as error:
            # The others need a moment to end after the connection broke.
            for other in others:
                other.join(timeout=5)
            statuses = [other.exitcode for other in others if other.exitcode]
            if not statuses:
                raise
            raise RuntimeError(
                f"a process that trained beside this one ended with exit status {statuses[0]}; "
                "its own messages stand above, a negative status is the signal that ended it"
            ) from error
        finally:
            for other in others:
                other.kill()
            if distributed.is_initialized():
                distributed.destroy_process_group()
            torch.set_num_threads(num_threads)


def _train_too(
    rank: int,
    number: int,
    rendezvous: str,
    work: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    _join(rank, number, rendezvous)
    work(*arguments)


def _join(rank: int, number: int, rendezvous: str) -> None:
    """Meet the other processes, and take this one's share of the cores."""
    torch.set_num_threads(max(available_cores() // number, 1))
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=number
    )
