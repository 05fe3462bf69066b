"""Encoded texts joined to a batch. Shapes: B rows, N text tokens, M targets."""

from collections.abc import Sequence
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText


class TextBatch(TypedDict):
    """Prompts with responses, one row after the other, without padding.

    The last token of a row predicts nothing, so it is among the targets only.
    """

    input_ids: Tensor
    """``(N,)`` int64: of each row, all tokens but the last"""
    lengths: Tensor
    """``(B,)`` int64: how many of ``input_ids`` are of each row; maybe 0"""
    longest: int
    """The greatest of ``lengths``, on the host: no kernel has to be waited for to know it"""
    target_ids: Tensor
    """``(M,)`` int64: tokens to predict"""
    target_rows: Tensor
    """``(M,)`` int64: their rows"""
    target_columns: Tensor
    """``(M,)`` int64: their positions in the texts of their rows; predicted one position before"""


def collate_texts(texts: Sequence[EncodedText]) -> TextBatch:
    """Join ``texts`` to one batch, in their order."""
    lengths = [len(text.input_ids) - 1 for text in texts]
    targets = [
        (label, row, column)
        for row, text in enumerate(texts)
        for column, label in enumerate(text.labels)
        if label != IGNORE_INDEX
    ]
    # Three columns also without targets: (M, 3) -> three of (M,), each contiguous
    ids, rows, columns = torch.tensor(targets, dtype=torch.int64).reshape(-1, 3).T.contiguous()
    return TextBatch(
        input_ids=torch.tensor(
            [i for text in texts for i in text.input_ids[:-1]], dtype=torch.int64
        ),
        lengths=torch.tensor(lengths),
        longest=max(lengths),
        target_ids=ids,
        target_rows=rows,
        target_columns=columns,
    )


def move_texts(batch: TextBatch, device: torch.device) -> TextBatch:
    """Move the tensors of ``batch`` to ``device``."""
    values: dict[str, Any] = dict(batch)
    moved = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in values.items()}
    return cast(TextBatch, moved)
