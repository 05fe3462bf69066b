"""Texts about videos, each token sequence that several begin with computed once.

Log-likelihoods of whole texts, and keys and values of prompts that are to be continued.

Shapes: V videos, Q video embeddings, D width, M targets, R prompts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vidreason.reasoning.key_value_cache import cache_argument
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
    output = _run(model, video, batch)
    hidden = output.last_hidden_state[batch.target_rows, batch.target_positions]
    return target_log_likelihoods(model, output, hidden, batch.target_ids)


def read_prompts(
    model: PreTrainedModel,
    video: Tensor,
    videos: Sequence[int],
    prompts: Sequence[Sequence[int]],
    copies: int = 1,
) -> Cache | None:
    """Read prompts but for their last tokens, and what several of them begin with once.

    Args:
        model: The language model.
        video: Video embeddings, shape ``(V, Q, D)``.
        videos: Of each prompt, the index of its video.
        prompts: Token ids of R prompts.
        copies: Rows of each prompt, one after the other, as the beams of a search are.

    Returns:
        Keys and values of ``R * copies`` rows ``[E_vision; E_text]``, padded on the left to the
        longest; None if nothing is shared, or the model cannot share it.
    """
    # One prompt a video, and no beams: nothing begins alike.
    if copies == 1 and len(set(videos)) == len(prompts):
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return None
    # With each token as a target, a tree tells for each text the positions that lead to it.
    texts = [EncodedText(list(prompt), list(prompt)) for prompt in prompts]
    batches, others = tree_batches(model, texts, videos, video.shape[1])
    if others or not all(prompts):
        return None
    read, rows, offset = list[DynamicCache](), dict[int, Tensor](), 0
    for batch in batches:
        read.append(DynamicCache())
        _run(model, video, TreeBatch(*(tensor.to(video.device) for tensor in batch)), read[-1])
        for index in set(batch.target_texts.tolist()):
            of_text = batch.target_texts == index
            # From the video's last embedding on; the others stand before it.
            path = (
                batch.target_positions[of_text]
                + batch.target_rows[of_text][0] * (batch.positions.shape[1])
            )
            others_of_video = path[0] + torch.arange(1 - video.shape[1], 0)  # (Q - 1,)
            # Positions of all batches are counted through, as the keys and values below are joined.
            rows[index] = offset + torch.cat([others_of_video, path])
        offset += batch.positions.numel()
    # (R, Q + T - 1) -> (R * copies, Q + T - 1); what pads the rows is masked.
    chosen = [rows[index] for index in range(len(prompts))]
    columns = pad_sequence(chosen, batch_first=True, padding_side="left").to(video.device)
    columns = columns.repeat_interleave(copies, dim=0)
    for number, layers in enumerate(zip(*(one.layers for one in read), strict=True)):
        keys = _rows_of([layer.keys for layer in layers], columns)
        values = _rows_of([layer.values for layer in layers], columns)
        cache.update(keys, values, number)
    return cache


def _run(
    model: PreTrainedModel, video: Tensor, batch: TreeBatch, cache: DynamicCache | None = None
) -> Any:  # noqa: ANN401 - the output record is named after the model's class
    """Run the decoder on trees, on the device of ``video``; ``cache`` gets keys and values."""
    text = model.get_input_embeddings()(batch.input_ids)
    decoder = decoder_of(model)
    cached = {} if cache is None else cache_argument(decoder, cache)
    return decoder(
        # (trees,) indices of (V, Q, D), then words: (trees, Q + T, D)
        inputs_embeds=torch.cat([video.to(text.dtype)[batch.videos], text], dim=1),
        attention_mask=ancestor_mask(batch.ends),
        position_ids=batch.positions,
        use_cache=cache is not None,
        **cached,
    )


def _rows_of(states: Sequence[Tensor], columns: Tensor) -> Tensor:
    """Put together rows ``(R, K, L, D)`` of positions of all batches ``(B, K, T, D)``."""
    # (B, K, T, D) -> (B * T, K, D)
    flat = torch.cat([one.transpose(1, 2).flatten(0, 1) for one in states])
    # (R, L) indices of (all positions, K, D) -> (R, L, K, D) -> (R, K, L, D)
    return flat[columns].transpose(1, 2)
