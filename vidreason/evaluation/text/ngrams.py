"""Common parts of the n-gram scores: counts of n-grams, and the check of their arguments."""

from collections import Counter
from collections.abc import Sequence

MAX_ORDER = 4  # words of the longest n-gram

Tokens = Sequence[str]


def count_ngrams(tokens: Tokens, order: int) -> Counter[tuple[str, ...]]:
    """Counts of the runs of ``order`` tokens."""
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def check_corpus(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """Check that there are texts, and at least one reference for each.

    Raises:
        ValueError: No texts, different numbers of texts and of lists of references, a text without
            a reference, or a string where a list of tokens belongs.
    """
    if not hypotheses:
        raise ValueError("there are no texts to score")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} texts, but references for {len(references)}; give one list of "
            "references for each text"
        )
    for index, (hypothesis, group) in enumerate(zip(hypotheses, references, strict=True)):
        if not group:
            raise ValueError(f"text {index} has no reference; leave it out and say so")
        if any(isinstance(tokens, str) for tokens in (hypothesis, group, *group)):
            raise ValueError(
                f"text {index} or its references are strings; pass lists of tokens, such as those "
                "of ptb_tokens()"
            )
