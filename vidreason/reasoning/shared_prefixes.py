"""Log-likelihoods of texts about videos, each token sequence that several begin with computed once.

Shapes: V videos, Q video embeddings, D width, M targets.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidreason.reasoning.output_layer import decoder_of, target_log_likelihoods
from vidreason.reasoning.packed_attention import packs_rows
from vidreason.reasoning.prefix_tree import (
    MAX_POSITIONS,
    TreeBatch,
    ancestor_mask,
    batch_trees,
    plan_trees,
)
from vidreason.reasoning.tokenization import EncodedText

_WINDOWS = ("sliding_window", "attention_chunk_size")
"""Under these names configurations of transformers bound how far a layer looks back."""


def longest_shared(model: PreTrainedModel) -> int:
    """Length of the longest sequence ``[E_vision; E_text]`` whose beginning can be shared.

    A tree's mask is the same for all layers. So those that look back over a window only must reach
    the first position from all others.

    Returns:
        Positions; 0 for a model whose attention cannot be given a mask.
    """
    if not packs_rows(model):
        return 0
    config = model.config.get_text_config()
    windows: list[int | None] = [getattr(config, name, None) for name in _WINDOWS]
    return min([MAX_POSITIONS, *(window for window in windows if window)])


def tree_batches(
    model: PreTrainedModel,
    texts: Sequence[EncodedText],
    videos: Sequence[int],
    num_embeddings: int,
) -> tuple[list[TreeBatch], list[int]]:
    """Arrange texts so that their beginnings are shared where the model can do it.

    Args:
        model: The language model.
        texts: Texts about videos.
        videos: Of each text, the index of its video.
        num_embeddings: Video embeddings before each text, Q.

    Returns:
        Batches for :func:`tree_log_likelihoods`, and the indices of texts that are not in them.
    """
    longest = longest_shared(model)
    fits = [num_embeddings + len(text.input_ids) - 1 <= longest for text in texts]
    shared = [index for index, fit in enumerate(fits) if fit]
    alone = [index for index, fit in enumerate(fits) if not fit]
    # A layer has about 12 D^2 weights, one product each with a position, and attention 2 D products
    # a pair of positions. Measured on a CPU at D = 128, 256 and 512, it is as dear as that says.
    even_length = 6 * model.config.get_text_config().hidden_size
    trees = plan_trees(texts, videos, shared, num_embeddings, even_length)
    return batch_trees(trees, num_embeddings, even_length), alone


def tree_log_likelihoods(model: PreTrainedModel, video: Tensor, batch: TreeBatch) -> Tensor:
    """Log-likelihood of each target of a batch of trees.

    Args:
        model: The language model; its attention takes masks, see :func:`longest_shared`.
        video: Video embeddings, shape ``(V, Q, D)``.
        batch: Trees of texts about these videos, on any device.

    Returns:
        Shape ``(M,)``, float32.
    """
    batch = TreeBatch(*(tensor.to(video.device) for tensor in batch))
    text = model.get_input_embeddings()(batch.input_ids)
    # Any: the output record is named after the model's class.
    output: Any = decoder_of(model)(
        inputs_embeds=torch.cat([video.to(text.dtype)[batch.videos], text], dim=1),
        attention_mask=ancestor_mask(batch.ends),
        position_ids=batch.positions,
        use_cache=False,
    )
    hidden = output.last_hidden_state[batch.target_rows, batch.target_positions]
    return target_log_likelihoods(model, output, hidden, batch.target_ids)
