"""``[E_vision; E_text]`` of a batch's rows as one sequence, or as padded rows (section 3.3).

Shapes: B rows, Q queries, N text tokens, L = B Q + N positions, M targets, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidreason.reasoning.text_batch import TextBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedRows:
    """Rows of unequal lengths, one after the other. Nothing here waits for the device."""

    embeddings: Tensor
    """Shape ``(L, D)``: of each row, video embeddings, then word embeddings."""
    positions: Tensor
    """Shape ``(L,)``, int64: positions, which begin with 0 in each row."""
    offsets: Tensor
    """Shape ``(B + 1,)``, int32: where the rows begin, and where the last one ends."""
    padded: Tensor
    """Shape ``(L,)``, int64: where each position is if rows are padded to ``(B * longest,)``."""
    longest: int
    """Length of the longest row."""

    def pad(self) -> Tensor:
        """The embeddings as rows padded on the right with zeros, shape ``(B, longest, D)``."""
        num_rows, width = len(self.offsets) - 1, self.embeddings.shape[1]
        # (L, D) -> (B * longest, D) -> (B, longest, D)
        padded = self.embeddings.new_zeros(num_rows * self.longest, width)
        return padded.index_copy(0, self.padded, self.embeddings).view(
            num_rows, self.longest, width
        )


def join_rows(video: Tensor, words: Tensor, text: TextBatch) -> JoinedRows:
    """Put the embeddings of each row's video before those of its text.

    Args:
        video: Shape ``(B, Q, D)``.
        words: Shape ``(N, D)``: embeddings of ``text["input_ids"]``.
        text: On the same device.
    """
    (num_rows, queries, _), device = video.shape, video.device
    total = num_rows * queries + len(words)
    lengths = text["lengths"] + queries
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])  # (B + 1,)
    # Row of each position, (L,). Its size is known here: else the host would wait for the device.
    rows = torch.repeat_interleave(
        torch.arange(num_rows, device=device), lengths, output_size=total
    )
    positions = torch.arange(total, device=device) - offsets[rows]
    # In [video embeddings of all rows; words of all rows]: before a word stand the words of former
    # rows, which are as many as the positions of these rows less their video embeddings.
    word = num_rows * queries + torch.arange(total, device=device) - (rows + 1) * queries
    source = torch.where(positions < queries, rows * queries + positions, word)
    longest = text["longest"] + queries
    return JoinedRows(
        # (B, Q, D) -> (B * Q, D); with the words (B * Q + N, D); in the order of the rows (L, D)
        embeddings=torch.cat([video.flatten(0, 1), words]).index_select(0, source),
        positions=positions,
        offsets=offsets.int(),
        padded=rows * longest + positions,
        longest=longest,
    )


def predicting_positions(rows: JoinedRows, text: TextBatch, queries: int) -> Tensor:
    """Positions of the whole sequence that predict the targets of ``text``, shape ``(M,)``.

    The token at column t of a row stands at Q + t and is predicted one position earlier.
    """
    return rows.offsets[text["target_rows"]] + queries + text["target_columns"] - 1
