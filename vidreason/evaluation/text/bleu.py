"""BLEU-1 to BLEU-4 as the official caption scorer computes them.

Source: github salaniz/pycocoevalcap 1.2, ``bleu/bleu_scorer.py`` with ``option="closest"``. Its
small constants are kept: they are why a perfect sentence of three words has a BLEU-4 of 0.03 alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from vidreason.evaluation.text.ngrams import MAX_ORDER, Tokens, check_corpus, count_ngrams

_TINY = 1e-15  # it and the next: the official scorer's, so that nothing is divided by zero
_SMALL = 1e-9


class BleuCounts(NamedTuple):
    """Sufficient statistics of BLEU; summing them over texts gives the corpus counts."""

    matches: tuple[int, ...]
    """N-grams of 1 to 4 words that a reference has, too."""
    guesses: tuple[int, ...]
    num_tokens: int
    num_reference_tokens: int
    """Length of the reference that is closest in length."""


def bleu_counts(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> list[BleuCounts]:
    """Counts of each tokenised text, for :func:`bleu_of_counts` of all or some of them.

    Args:
        hypotheses: Tokens of each text; the official ones are
            :func:`vidreason.evaluation.text.ptb_tokenizer.ptb_tokens`.
        references: For each text, the tokens of one or several references.

    Raises:
        ValueError: See :func:`vidreason.evaluation.text.ngrams.check_corpus`.
    """
    check_corpus(hypotheses, references)
    return [_count(tokens, group) for tokens, group in zip(hypotheses, references, strict=True)]


def bleu_of_counts(counts: Sequence[BleuCounts]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4, from 0 to 1, of the counted texts as one corpus.

    It is not the mean of the texts' scores.
    """
    # Counts of the corpus, by order.
    matches, guesses = (
        [sum(column) for column in zip(*rows, strict=True)]
        for rows in ([count.matches for count in counts], [count.guesses for count in counts])
    )
    num_tokens = sum(count.num_tokens for count in counts)
    num_reference_tokens = sum(count.num_reference_tokens for count in counts)
    # Texts shorter than their references are punished.
    ratio = (num_tokens + _TINY) / (num_reference_tokens + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order, (num_matches, num_guesses) in enumerate(zip(matches, guesses, strict=True), 1):
        # The geometric mean of the precisions up to this order.
        product *= (num_matches + _TINY) / (num_guesses + _SMALL)
        scores.append(product ** (1 / order) * brevity)
    return tuple(scores)


def _count(tokens: Tokens, references: Sequence[Tokens]) -> BleuCounts:
    matches, guesses = [], []
    for order in range(1, MAX_ORDER + 1):
        # An n-gram counts as often as in the reference that has most of it.
        allowed: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            allowed |= count_ngrams(reference, order)
        matches.append((count_ngrams(tokens, order) & allowed).total())
        guesses.append(max(0, len(tokens) - order + 1))
    # Of two that are as near, the shorter one.
    closest = min((abs(len(other) - len(tokens)), len(other)) for other in references)[1]
    return BleuCounts(tuple(matches), tuple(guesses), len(tokens), closest)
