"""Search for what a language model may write until the end of a line (section 3.3.2).

All videos of a batch have one prompt, so nothing is padded: the prompt is read once for each video,
whatever the number of hypotheses.

Shapes: B videos, L positions of the prompt, W hypotheses, T tokens, V vocabulary, D width.
"""

import inspect
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.reasoning.key_value_cache import cache_argument, cache_in
from vidreason.reasoning.tokenization import stop_ids

_NEGLIGIBLE = math.log(1e-6)
"""Log of the ratio to the best line below which a beam is given up."""


class LineTokens(NamedTuple):
    """Tokens that end a line, or the whole answer."""

    ends: Tensor
    """``(V,)`` bool: tokens with a line break, maybe after other characters"""
    stops: Tensor
    """``(V,)`` bool: tokens that end the answer instead"""


def line_tokens(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, device: torch.device
) -> LineTokens:
    """Return the tokens that end a line, for the vocabulary of the model's output layer."""
    size = model.get_output_embeddings().weight.shape[0]  # type: ignore[no-untyped-call]
    ends = torch.zeros(size, dtype=torch.bool)
    ends[[token for token in line_end_ids(tokenizer) if token < size]] = True
    stops = torch.zeros(size, dtype=torch.bool)
    stops[[token for token in stop_ids(tokenizer) if token < size]] = True
    stops[len(tokenizer) :] = True  # rows of the output layer that are no token
    return LineTokens((ends & ~stops).to(device), stops.to(device))


def line_end_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that hold a line break."""
    return _line_end_ids(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _line_end_ids(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[int, ...]:
    texts = tokenizer.batch_decode([[token] for token in range(size)])
    return tuple(token for token, text in enumerate(texts) if "\n" in text)


@torch.no_grad()
def beam_lines(
    model: PreTrainedModel, prefix: Tensor, tokens: LineTokens, width: int, max_tokens: int
) -> list[list[list[int]]]:
    """Find the likeliest lines by beam search.

    Lines that end do not take the beams of those that go on. The search for a video is over when no
    beam can become one of its ``width`` best lines, or all are a million times less likely than the
    best.

    Args:
        model: The language model, in eval mode.
        prefix: Embeddings of all before the line, shape ``(B, L, D)``.
        tokens: Tokens that end a line.
        width: Number of beams, W.
        max_tokens: Longest line, its end included.

    Returns:
        For each video at most W lines, the likeliest first, each with the token that ends it. None
        that does not end.
    """
    steps = _Decoding(model, prefix, width)
    num_videos, vocabulary = len(prefix), len(tokens.ends)
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(num_videos)]
    scores = prefix.new_full((num_videos, width), -math.inf, dtype=torch.float32)
    scores[:, 0] = 0.0  # beams are alike before the first token
    written = torch.zeros(num_videos, width, 0, dtype=torch.int64, device=prefix.device)
    for log_probabilities in steps:
        total = _without_nan(scores[:, :, None] + log_probabilities)  # (B, W, V)
        # The W best lines that end here: (B, W, V) -> (B, W V) -> (B, W); an index is beam * V +
        # token.
        ended = total.masked_fill(~tokens.ends, -math.inf).flatten(1).topk(width)
        for lines, values, indices, beams in zip(
            finished, ended.values.tolist(), ended.indices.tolist(), written.tolist(), strict=True
        ):
            lines += [
                (value, [*beams[index // vocabulary], index % vocabulary])
                for value, index in zip(values, indices, strict=True)
                if value > -math.inf
            ]
            lines.sort(key=lambda line: -line[0])
            del lines[width:]
        if written.shape[2] + 1 == max_tokens:
            break
        # (B, W V) -> the W best to go on
        scores, indices = (
            total.masked_fill(tokens.ends | tokens.stops, -math.inf).flatten(1).topk(width)
        )
        # Beams that cannot reach the best lines any more are given up.
        needed = torch.tensor([_needed(lines, width) for lines in finished], device=scores.device)
        scores = scores.masked_fill(scores < needed[:, None], -math.inf)
        if not (scores > -math.inf).any():
            break
        beams, chosen = indices // vocabulary, indices % vocabulary
        # (B, W) beams -> their tokens so far, (B, W, T)
        earlier = written.gather(1, beams[:, :, None].expand(-1, -1, written.shape[2]))
        written = torch.cat([earlier, chosen[:, :, None]], dim=2)
        steps.write(chosen, beams)
    return [[line for _, line in lines] for lines in finished]


@torch.no_grad()
def drawn_lines(
    model: PreTrainedModel,
    prefix: Tensor,
    tokens: LineTokens,
    number: int,
    max_tokens: int,
    top_p: float,
    seed: int,
) -> list[list[list[int]]]:
    """Draw lines from the nucleus; with a ``top_p`` of 0, the likeliest token each time.

    All videos are given the same random numbers, so that one's lines do not depend on the others.

    Args:
        model: As for :func:`beam_lines`, and so ``prefix``, ``tokens`` and ``max_tokens``.
        prefix: Shape ``(B, L, D)``.
        tokens: Tokens that end a line.
        number: How many lines to draw, W.
        max_tokens: Longest line, its end included.
        top_p: Draw among the likeliest tokens that together have this probability.
        seed: Of the random numbers.

    Returns:
        For each video those of the W lines that end, as :func:`beam_lines` gives them.
    """
    steps = _Decoding(model, prefix, number)
    generator = torch.Generator().manual_seed(seed)
    # (max_tokens, W): the same numbers for each video.
    draws = torch.rand(max_tokens, number, generator=generator).to(prefix.device)
    written = torch.zeros(len(prefix), number, 0, dtype=torch.int64, device=prefix.device)
    over = torch.zeros(len(prefix), number, dtype=torch.bool, device=prefix.device)
    for step, log_probabilities in enumerate(steps):
        chosen = _nucleus_choice(log_probabilities, draws[step], top_p)  # (B, W)
        written = torch.cat([written, chosen[:, :, None]], dim=2)  # (B, W, step + 1)
        over |= (tokens.ends | tokens.stops)[chosen]
        if over.all() or step + 1 == max_tokens:
            break
        steps.write(chosen)
    ends = tokens.ends.tolist()
    return [
        [line for row in rows if (line := _first_line(row, ends, tokens.stops.tolist()))]
        for rows in written.tolist()
    ]


class _Decoding:
    """Log-probabilities of the next token, ``(B, W, V)`` float32, of hypotheses as they grow.

    A model without a cache of keys and values reads each hypothesis anew for each token.
    """

    def __init__(self, model: PreTrainedModel, prefix: Tensor, width: int) -> None:
        self._model = model
        self._shape = (len(prefix), width)
        # The row of the prefix that each hypothesis starts from: (B,) -> (B * W,)
        rows = torch.arange(len(prefix), device=prefix.device).repeat_interleave(width)
        takes = inspect.signature(model.forward).parameters
        last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        # Any: the output record is named after the model's class.
        output: Any = model(inputs_embeds=prefix, use_cache=True, **last)
        self._cache = cache_in(output)
        self._read = prefix[rows] if self._cache is None else prefix
        if self._cache is not None:
            self._cache.reorder_cache(rows)  # type: ignore[arg-type]  # any int64 tensor does
        self._next = self._log_probabilities(output.logits[rows])

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self._next

    def write(self, chosen: Tensor, beams: Tensor | None = None) -> None:
        """Go on with a token, shape ``(B, W)`` int64, after the hypotheses that ``beams`` names."""
        num_videos, width = self._shape
        rows = torch.arange(num_videos * width, device=chosen.device)
        if beams is not None:
            # From beams of a video to rows of the batch: (B, 1) + (B, W) -> (B * W,)
            rows = (rows.view(num_videos, width)[:, :1] + beams).flatten()
        # One new token a row: (B, W) -> (B * W, 1)
        ids = chosen.reshape(-1, 1)
        if self._cache is None:
            words = self._model.get_input_embeddings()(ids)
            self._read = torch.cat([self._read[rows], words], dim=1)
            output: Any = self._model(inputs_embeds=self._read, use_cache=False)
        else:
            if beams is not None:
                self._cache.reorder_cache(rows)  # type: ignore[arg-type]
            cache = cache_argument(self._model, self._cache)
            output = self._model(input_ids=ids, use_cache=True, **cache)
        self._next = self._log_probabilities(output.logits)

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        # (B W, T, V) -> (B, W, V)
        num_videos, width = self._shape
        return logits[:, -1].float().log_softmax(-1).view(num_videos, width, -1)


def _needed(lines: list[tuple[float, list[int]]], width: int) -> float:
    """Log-likelihood that a beam needs to be worth going on, beside the lines that have ended."""
    if not lines:
        return -math.inf
    last = lines[-1][0] if len(lines) == width else -math.inf
    return max(last, lines[0][0] + _NEGLIGIBLE)


def _without_nan(log_probabilities: Tensor) -> Tensor:
    """Take what is no number, as damaged weights give it, for impossible."""
    return log_probabilities.nan_to_num(nan=-math.inf, neginf=-math.inf)


def _nucleus_choice(log_probabilities: Tensor, draws: Tensor, top_p: float) -> Tensor:
    """Choose a token of each nucleus: ``(B, W, V)`` and ``(W,)`` of [0, 1) -> ``(B, W)``."""
    ordered, indices = _without_nan(log_probabilities).exp().sort(dim=-1, descending=True)
    sums = ordered.cumsum(-1)
    # The first always stays: nothing is before it.
    kept = torch.where(sums - ordered < max(top_p, 1e-9), ordered, 0.0).cumsum(-1)
    # Inverse of the distribution function: how many tokens lie below the draw, (B, W)
    drawn = (kept <= draws[None, :, None] * kept[:, :, -1:]).sum(-1)
    return indices.gather(-1, drawn.clamp(max=indices.shape[-1] - 1)[:, :, None])[:, :, 0]


def _first_line(row: list[int], ends: list[bool], stops: list[bool]) -> list[int]:
    """The tokens up to the first end of a line; none if the answer ends before, or goes on."""
    for index, token in enumerate(row):
        if stops[token]:
            return []
        if ends[token]:
            return row[: index + 1]
    return []
