"""BLEU-1 to BLEU-4 as the official caption scorer computes them.

Source: github salaniz/pycocoevalcap 1.2, ``bleu/bleu_scorer.py`` with ``option="closest"``. Its
small constants are kept: they are why a perfect sentence of three words has a BLEU-4 of 0.03 alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vidreason.evaluation.text.ngrams import MAX_ORDER, Tokens, check_corpus, count_ngrams

_TINY = 1e-15
_SMALL = 1e-9


@dataclass(frozen=True, kw_only=True)
class BleuScores:
    """BLEU of a corpus, and of each text as a corpus of its own."""

    corpus: tuple[float, ...]
    """BLEU-1 to BLEU-4, from 0 to 1. It is not the mean of the texts' scores."""
    texts: tuple[tuple[float, ...], ...]
    """BLEU-1 to BLEU-4 of each text."""


@dataclass(frozen=True)
class _Counts:
    matches: tuple[int, ...]
    guesses: tuple[int, ...]
    num_tokens: int
    num_reference_tokens: int


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> BleuScores:
    """BLEU of tokenised texts.

    Args:
        hypotheses: Tokens of each text; the official ones are
            :func:`vidreason.evaluation.text.ptb_tokenizer.ptb_tokens`.
        references: For each text, the tokens of one or several references.

    Raises:
        ValueError: See :func:`vidreason.evaluation.text.ngrams.check_corpus`.
    """
    check_corpus(hypotheses, references)
    counts = [_count(tokens, own) for tokens, own in zip(hypotheses, references, strict=True)]
    total = _Counts(
        tuple(map(sum, zip(*(own.matches for own in counts), strict=True))),
        tuple(map(sum, zip(*(own.guesses for own in counts), strict=True))),
        sum(own.num_tokens for own in counts),
        sum(own.num_reference_tokens for own in counts),
    )
    return BleuScores(corpus=_scores(total), texts=tuple(map(_scores, counts)))


def _count(tokens: Tokens, references: Sequence[Tokens]) -> _Counts:
    matches, guesses = [], []
    for order in range(1, MAX_ORDER + 1):
        allowed: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            allowed |= count_ngrams(reference, order)
        matches.append((count_ngrams(tokens, order) & allowed).total())
        guesses.append(max(0, len(tokens) - order + 1))
    closest = min((abs(len(own) - len(tokens)), len(own)) for own in references)[1]
    return _Counts(tuple(matches), tuple(guesses), len(tokens), closest)


def _scores(counts: _Counts) -> tuple[float, ...]:
    ratio = (counts.num_tokens + _TINY) / (counts.num_reference_tokens + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order, (matches, guesses) in enumerate(zip(counts.matches, counts.guesses, strict=True), 1):
        product *= (matches + _TINY) / (guesses + _SMALL)
        scores.append(product ** (1 / order) * brevity)
    return tuple(scores)
