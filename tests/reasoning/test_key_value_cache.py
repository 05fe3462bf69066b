"""The cache of keys and values under the former name of transformers, and under the new one."""

from types import SimpleNamespace

import pytest
from torch import nn
from transformers import DynamicCache

from vidreason.reasoning.key_value_cache import cache_argument, cache_in


class Old(nn.Module):
    def forward(self, input_ids=None, past_key_values=None):
        return SimpleNamespace(past_key_values=past_key_values)


class New(nn.Module):
    def forward(self, input_ids=None, cache=None, **kwargs):
        assert not kwargs
        return SimpleNamespace(cache=cache)


@pytest.mark.parametrize("model", [Old(), New()])
def test_a_cache_comes_out_and_goes_in_by_the_name_of_the_model(model):
    cache = DynamicCache()
    assert cache_in(model(**cache_argument(model, cache))) is cache
    assert cache_in(model()) is None
    # A cache of a form of the model's own is none.
    assert cache_in(SimpleNamespace(past_key_values=((), ()))) is None
