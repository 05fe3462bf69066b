"""CIDEr-D as the official caption scorer computes it, where it is called CIDEr.

Source: github salaniz/pycocoevalcap 1.2, ``cider/cider_scorer.py``. Three things to know: words are
weighted by how rare they are *in the references of this very corpus*, so scores of subsets or of
ranks must never be averaged, and a corpus of one text scores 0; nothing is stemmed; the length
penalty counts pairs of words.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vidreason.evaluation.text.ngrams import MAX_ORDER, Tokens, check_corpus, count_ngrams

_SIGMA = 6.0  # pairs of words, of the length penalty
_SCALE = 10.0  # the official score is from 0 to 10

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class _Vectors:
    """For each order, weights by n-gram and their norm."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    num_pairs: int


def cider_d(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[float, ...]:
    """CIDEr-D of each tokenised text, from 0 to 10; the corpus' score is their mean.

    Args:
        hypotheses: Tokens of each text.
        references: For each text, the tokens of one or several references.

    Raises:
        ValueError: See :func:`vidreason.evaluation.text.ngrams.check_corpus`.
    """
    check_corpus(hypotheses, references)
    # In how many items' references each n-gram is.
    frequencies = Counter(
        ngram
        for group in references
        for ngram in {
            ngram
            for reference in group
            for order in range(1, MAX_ORDER + 1)
            for ngram in count_ngrams(reference, order)
        }
    )

    def vectors(tokens: Tokens) -> _Vectors:
        # Count times inverse document frequency; one of no reference as one of one.
        weights = tuple(
            {
                ngram: count * (math.log(len(references)) - math.log(max(1, frequencies[ngram])))
                for ngram, count in count_ngrams(tokens, order).items()
            }
            for order in range(1, MAX_ORDER + 1)
        )
        norms = tuple(
            math.sqrt(sum(value * value for value in group.values())) for group in weights
        )
        return _Vectors(weights, norms, max(0, len(tokens) - 1))

    scores = []
    for tokens, group in zip(hypotheses, references, strict=True):
        hypothesis = vectors(tokens)
        similarities = [_similarity(hypothesis, vectors(reference)) for reference in group]
        scores.append(_SCALE * sum(similarities) / len(similarities))
    return tuple(scores)


def _similarity(hypothesis: _Vectors, reference: _Vectors) -> float:
    """Mean over the orders of the clipped cosine, times the length penalty."""
    cosines = 0.0
    for order in range(MAX_ORDER):
        expected = reference.weights[order]
        # Clipped: an n-gram gains nothing by coming more often than in the reference.
        product = sum(
            min(weight, expected.get(ngram, 0.0)) * expected.get(ngram, 0.0)
            for ngram, weight in hypothesis.weights[order].items()
        )
        norm = hypothesis.norms[order] * reference.norms[order]
        cosines += product / norm if norm else product
    difference = hypothesis.num_pairs - reference.num_pairs
    return cosines / MAX_ORDER * math.exp(-(difference**2) / (2 * _SIGMA**2))
