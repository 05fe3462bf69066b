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

_SIGMA = 6.0
_SCALE = 10.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DocumentFrequencies:
    """How many items' references hold each n-gram; to score a subset with the weights of all."""

    num_items: int
    counts: Counter[Ngram]


@dataclass(frozen=True, kw_only=True)
class CiderScores:
    """CIDEr-D of a corpus and of its texts, from 0 to 10."""

    corpus: float
    texts: tuple[float, ...]


@dataclass(frozen=True)
class _Vectors:
    """For each order, weights by n-gram and their norm."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    num_pairs: int


def document_frequencies(references: Sequence[Sequence[Tokens]]) -> DocumentFrequencies:
    """Count in how many items' references each n-gram of up to four words is."""
    counts: Counter[Ngram] = Counter()
    for own in references:
        counts.update(
            {
                ngram
                for reference in own
                for order in range(1, MAX_ORDER + 1)
                for ngram in count_ngrams(reference, order)
            }
        )
    return DocumentFrequencies(num_items=len(references), counts=counts)


def cider_d(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    frequencies: DocumentFrequencies | None = None,
) -> CiderScores:
    """CIDEr-D of tokenised texts.

    Args:
        hypotheses: Tokens of each text.
        references: For each text, the tokens of one or several references.
        frequencies: Of a larger corpus; None, the official way, takes those of ``references``.

    Raises:
        ValueError: See :func:`vidreason.evaluation.text.ngrams.check_corpus`.
    """
    check_corpus(hypotheses, references)
    known = document_frequencies(references) if frequencies is None else frequencies
    texts = tuple(
        _score(tokens, own, known) for tokens, own in zip(hypotheses, references, strict=True)
    )
    return CiderScores(corpus=sum(texts) / len(texts), texts=texts)


def _score(tokens: Tokens, references: Sequence[Tokens], frequencies: DocumentFrequencies) -> float:
    hypothesis = _vectors(tokens, frequencies)
    similarities = [
        _similarity(hypothesis, _vectors(reference, frequencies)) for reference in references
    ]
    return _SCALE * sum(similarities) / len(similarities)


def _vectors(tokens: Tokens, frequencies: DocumentFrequencies) -> _Vectors:
    log_items = math.log(frequencies.num_items)
    weights = tuple(
        {
            ngram: count * (log_items - math.log(max(1, frequencies.counts[ngram])))
            for ngram, count in count_ngrams(tokens, order).items()
        }
        for order in range(1, MAX_ORDER + 1)
    )
    norms = tuple(math.sqrt(sum(value * value for value in own.values())) for own in weights)
    return _Vectors(weights, norms, max(0, len(tokens) - 1))


def _similarity(hypothesis: _Vectors, reference: _Vectors) -> float:
    """Mean over the orders of the clipped cosine, times the length penalty."""
    cosines = 0.0
    for order in range(MAX_ORDER):
        expected = reference.weights[order]
        product = sum(
            min(weight, expected.get(ngram, 0.0)) * expected.get(ngram, 0.0)
            for ngram, weight in hypothesis.weights[order].items()
        )
        norm = hypothesis.norms[order] * reference.norms[order]
        cosines += product / norm if norm else product
    difference = hypothesis.num_pairs - reference.num_pairs
    return cosines / MAX_ORDER * math.exp(-(difference**2) / (2 * _SIGMA**2))
