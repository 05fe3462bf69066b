"""ROUGE-L as the official caption scorer computes it.

Source: github salaniz/pycocoevalcap 1.2, ``rouge/rouge.py``. Recall counts more than precision
(beta 1.2), and each is the best over all references by itself; ``rouge-score`` and torchmetrics
have F1 on one reference with other tokens, so their numbers are other numbers.
"""

from collections.abc import Sequence

from vidreason.evaluation.text.ngrams import Tokens, check_corpus

_BETA_SQUARED = 1.2**2  # weight of recall beside precision


def rouge_l(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[float, ...]:
    """ROUGE-L of each text, from 0 to 1; the corpus' score is their mean.

    Args:
        hypotheses: Tokens of each text.
        references: For each text, the tokens of one or several references.

    Raises:
        ValueError: See :func:`vidreason.evaluation.text.ngrams.check_corpus`.
    """
    check_corpus(hypotheses, references)
    return tuple(
        _score(tokens, group) for tokens, group in zip(hypotheses, references, strict=True)
    )


def _score(tokens: Tokens, references: Sequence[Tokens]) -> float:
    # The official split of an empty text is one empty word, which two empty texts share.
    tokens = tokens or ("",)
    references = [reference or ("",) for reference in references]
    shared = [_longest_common_subsequence(tokens, reference) for reference in references]
    precision = max(shared) / len(tokens)
    recall = max(
        length / len(reference) for length, reference in zip(shared, references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)


def _longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """The length by Hyyro's bit-parallel rows (2004): one step a token of ``first``.

    A step works on an integer with one bit a token of ``second``: an endless answer costs time by
    its length beside a reference of ordinary length.
    """
    # Of each token of `second`, a bit at each of its places.
    positions: dict[str, int] = {}
    for position, token in enumerate(second):
        positions[token] = positions.get(token, 0) | 1 << position
    whole = (1 << len(second)) - 1
    row = whole  # a bit is 0 where the length grows
    for token in first:
        matches = row & positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & whole
    return len(second) - row.bit_count()
