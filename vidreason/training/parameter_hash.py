"""A name for the values of parameters, by which two trainings are compared bit by bit."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def hash_parameters(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """A blake2b over names, number types, shapes and bits.

    Args:
        parameters: In an order of their own, such as the alphabetical; one is held at a time.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in parameters:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        bits = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(bits.numpy().data)  # no copy
    return digest.hexdigest()
