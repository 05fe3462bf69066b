"""Values that are sharded over the processes of a run (FSDP2, ZeRO-3): gathered and cut again.

With one process everything here is the identity.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, distribute_tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Return whether this process is one of a group."""
    return distributed.is_available() and distributed.is_initialized()


def is_rank_zero() -> bool:
    """Return whether this process is the one that writes."""
    return not is_distributed() or distributed.get_rank() == 0


def rank() -> int:
    """Return the rank of this process; 0 without a group."""
    return distributed.get_rank() if is_distributed() else 0


def num_ranks() -> int:
    """Return the number of processes in the group; 1 without a group."""
    return distributed.get_world_size() if is_distributed() else 1


def whole(value: Tensor) -> Tensor:
    """Return the whole value of a shard, on its device; collective for shards."""
    if hasattr(value, "ds_id"):  # DeepSpeed's mark on a parameter that ZeRO-3 has cut
        deepspeed = importlib.import_module("deepspeed")  # an extra
        with deepspeed.zero.GatheredParameters([value]):
            return value.detach().clone()
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return this rank's shard of a whole ``value``, cut like ``parameter``; a shard stays.

    Not collective: each rank has the whole value, as from a file that is mapped into memory.
    """
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor):
        return value
    if value.shape != parameter.shape:
        return value  # a number about the parameter, such as AdamW's step
    on_device = value.to(parameter.device)
    # src_data_rank=None: each rank cuts its own copy, and nothing is sent.
    return distribute_tensor(
        on_device, parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def from_rank_zero(compute: Callable[[], T]) -> T:
    """Return rank 0's result of ``compute`` on all ranks; collective.

    Raises:
        ValueError: It raised one on rank 0.
    """
    if not is_distributed():
        return compute()
    outcome: list[Any] = [None, None]
    if is_rank_zero():
        try:
            outcome[0] = compute()
        except ValueError as error:
            outcome[1] = str(error)  # the others must not wait for an answer that never comes
    distributed.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ValueError(outcome[1])
    return cast(T, outcome[0])


def of_each_rank(value: T) -> list[T]:
    """Return all ranks' values, by rank, on each of them; collective."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * num_ranks()
    distributed.all_gather_object(values, value)
    return values
