"""The language model's word embeddings, as what the fusion core has to write like."""

import torch
from torch import nn

from vidreason.reasoning.language_model import causal_lm

_SCALE_SAMPLE = 4096
"""How many word embeddings their typical size is measured on."""


def word_embedding_size(model: nn.Module) -> tuple[int, float]:
    """Width and root mean square of the word embeddings, as the language model's layers get them.

    On the meta device the root mean square is that of a newly initialised model.
    """
    embeddings = causal_lm(model).get_input_embeddings()
    weight = embeddings.weight
    assert isinstance(weight, torch.Tensor)
    if weight.is_meta:
        return weight.shape[1], float(getattr(causal_lm(model).config, "initializer_range", 0.02))
    with torch.no_grad():
        ids = torch.arange(min(len(weight), _SCALE_SAMPLE), device=weight.device)
        return weight.shape[1], float(embeddings(ids).float().square().mean().sqrt())
