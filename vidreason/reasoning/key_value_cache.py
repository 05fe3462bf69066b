"""The cache of keys and values of a language model, under the names that transformers gives it.

It was ``past_key_values`` in calls and outputs; 5.24 calls it ``cache`` and warns of the old name,
which 5.40 is to take away.
"""

import inspect
from typing import Any

from torch import nn
from transformers import Cache

_NAME = "cache"
_OLD_NAME = "past_key_values"


def cache_in(output: Any) -> Cache | None:  # noqa: ANN401 - the record of any model class
    """Return the cache in a model's output; None for a model without one."""
    cache = getattr(output, _NAME, None)
    if cache is None:
        cache = getattr(output, _OLD_NAME, None)
    return cache if isinstance(cache, Cache) else None


def cache_argument(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """Return the keyword argument by which a call of ``model`` takes its cache."""
    takes = inspect.signature(model.forward).parameters
    return {_NAME if _NAME in takes else _OLD_NAME: cache}
