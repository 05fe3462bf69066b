"""Log-likelihoods of texts about videos whose embeddings are known.

Shapes: V videos, B rows, Q video embeddings, N text tokens, M targets, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidreason.reasoning.joined_rows import join_rows, predicting_positions
from vidreason.reasoning.output_layer import decoder_of, target_log_likelihoods
from vidreason.reasoning.packed_attention import packs_rows, row_arguments
from vidreason.reasoning.shared_prefixes import tree_batches, tree_log_likelihoods
from vidreason.reasoning.text_batch import TextBatch, collate_texts, move_texts
from vidreason.reasoning.tokenization import EncodedText


def row_log_likelihoods(model: PreTrainedModel, video: Tensor, text: TextBatch) -> Tensor:
    """Return the log-likelihood of each target token, with a row for each text.

    Only positions that predict a target reach the output layer. The rows are joined to one
    sequence, so that nothing is computed for padding; a language model that cannot be told where
    rows begin gets them padded.

    Args:
        model: The language model.
        video: Video embeddings of each row, shape ``(B, Q, D)``.
        text: Prompts with responses, on the same device.

    Returns:
        Shape ``(M,)``, float32, in the order of the targets.
    """
    # Embed: (N,) -> (N, D)
    words = model.get_input_embeddings()(text["input_ids"])
    # Join [E_vision; E_text] of all rows: (B Q + N, D)
    rows = join_rows(video.to(words.dtype), words, text)
    predicting = predicting_positions(rows, text, video.shape[1])
    # Run the decoder. Any: the output record is named after the model's class.
    decoder = decoder_of(model)
    if packs_rows(model):
        arguments = row_arguments(rows)
        output: Any = decoder(inputs_embeds=rows.embeddings[None], use_cache=False, **arguments)
    else:
        # The causal mask suffices: padding on the right is after all positions that count.
        output = decoder(inputs_embeds=rows.pad(), use_cache=False)
        predicting = rows.padded[predicting]
    # Keep the positions that predict a target: (1, B Q + N, D) or (B, longest, D) -> (M, D)
    hidden = output.last_hidden_state.flatten(0, 1).index_select(0, predicting)
    return target_log_likelihoods(model, output, hidden, text["target_ids"])


def text_log_likelihoods(
    model: PreTrainedModel, video: Tensor, videos: Sequence[int], texts: Sequence[EncodedText]
) -> Tensor:
    """Return log-likelihoods of texts with common beginnings, such as options of a question.

    A common beginning of texts about one video is computed once. A language model whose attention
    cannot do that gets a row for each text.

    Args:
        model: The language model.
        video: Embeddings of the videos, shape ``(V, Q, D)``.
        videos: Of each text, the index of its video.
        texts: The texts, in any order.

    Returns:
        Sums over each text's targets, float64, on the CPU.
    """
    # What can share its beginnings, then a row for each text that cannot.
    batches, others = tree_batches(model, texts, videos, video.shape[1])
    # Sums in float64 on the CPU: their order would show in float32.
    sums = torch.zeros(len(texts), dtype=torch.float64)
    for batch in batches:
        values = tree_log_likelihoods(model, video, batch)
        sums.index_add_(0, batch.target_texts, values.cpu().double())
    if others:
        rows = torch.tensor([videos[index] for index in others], device=video.device)
        text = collate_texts([texts[index] for index in others])
        values = row_log_likelihoods(model, video[rows], move_texts(text, video.device))
        sums.index_add_(0, torch.tensor(others)[text["target_rows"]], values.cpu().double())
    return sums
