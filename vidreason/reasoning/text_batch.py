"""Encoded texts padded to a batch. Shapes: B rows, T text tokens."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText


class TextBatch(TypedDict):
    """Prompts with responses, padded on the right to the longest."""

    input_ids: Tensor
    """``(B, T)`` int64"""
    attention_mask: Tensor
    """``(B, T)`` int64, 1 for a real token"""
    labels: Tensor
    """``(B, T)`` int64, ``IGNORE_INDEX`` outside the responses"""


def collate_texts(texts: Sequence[EncodedText], pad_token_id: int) -> TextBatch:
    """Pad ``texts`` to one batch, in their order."""
    return TextBatch(
        input_ids=_pad([text.input_ids for text in texts], pad_token_id),
        attention_mask=_pad([[1] * len(text.input_ids) for text in texts], 0),
        labels=_pad([text.labels for text in texts], IGNORE_INDEX),
    )


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills padded places: the tokenizer's own, or 0 where it has none (as Llama 3's).

    Any id would do, because ``attention_mask`` hides it.
    """
    found = tokenizer.pad_token_id
    return found if isinstance(found, int) else 0


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
