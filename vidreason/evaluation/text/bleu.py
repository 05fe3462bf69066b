"""BLEU-1 to BLEU-4 as the official caption scorer computes them.

Source: github salaniz/pycocoevalcap 1.2, ``bleu/bleu_scorer.py`` with ``option="closest"``. Its
small constants are kept: they are why a perfect sentence of three words has a BLEU-4 of 0.03 alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vidreason.evaluation.text.ngrams import MAX_ORDER, Tokens, check_corpus, count_ngrams

_TINY = 1e-15
_SMALL = 1e-9


class BleuCounts(NamedTuple):
    """What BLEU is made of. The sums over texts are the counts of a corpus of them."""

    matches: tuple[int, ...]
    """Of 1 to 4 words, how many of the text are in a reference, too."""
    guesses: tuple[int, ...]
    num_tokens: int
    num_reference_tokens: int
    """Of the reference whose length is closest."""


@dataclass(frozen=True, kw_only=True)
class BleuScores:
    """BLEU of a corpus, and of each text as a corpus of its own."""

    corpus: tuple[float, ...]
    """BLEU-1 to BLEU-4, from 0 to 1. It is not the mean of the texts' scores."""
    texts: tuple[tuple[float, ...], ...]
    """BLEU-1 to BLEU-4 of each text."""
    counts: tuple[BleuCounts, ...]
    """Of each text, for :func:`bleu_of_counts` of some of them."""


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
    return BleuScores(
        corpus=bleu_of_counts(counts),
        texts=tuple(bleu_of_counts([own]) for own in counts),
        counts=tuple(counts),
    )


def bleu_of_counts(counts: Sequence[BleuCounts]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of the texts that were counted, as one corpus."""
    matches, guesses = (
        [sum(column) for column in zip(*rows, strict=True)]
        for rows in ([own.matches for own in counts], [own.guesses for own in counts])
    )
    num_tokens = sum(own.num_tokens for own in counts)
    num_reference_tokens = sum(own.num_reference_tokens for own in counts)
    ratio = (num_tokens + _TINY) / (num_reference_tokens + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order, (num_matches, num_guesses) in enumerate(zip(matches, guesses, strict=True), 1):
        product *= (num_matches + _TINY) / (num_guesses + _SMALL)
        scores.append(product ** (1 / order) * brevity)
    return tuple(scores)


def _count(tokens: Tokens, references: Sequence[Tokens]) -> BleuCounts:
    matches, guesses = [], []
    for order in range(1, MAX_ORDER + 1):
        allowed: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            allowed |= count_ngrams(reference, order)
        matches.append((count_ngrams(tokens, order) & allowed).total())
        guesses.append(max(0, len(tokens) - order + 1))
    closest = min((abs(len(own) - len(tokens)), len(own)) for own in references)[1]
    return BleuCounts(tuple(matches), tuple(guesses), len(tokens), closest)
