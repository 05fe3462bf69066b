"""All n-gram scores of a run's free answers at once, from raw texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from vidreason.evaluation.text.bleu import BleuCounts, bleu
from vidreason.evaluation.text.cider import cider_d
from vidreason.evaluation.text.ptb_tokenizer import ptb_tokens
from vidreason.evaluation.text.rouge import rouge_l


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """Scores of a corpus, on the scales of the official scorers."""

    num_texts: int
    num_empty: int
    """Texts without a word. They count."""
    bleu: tuple[float, ...]
    """BLEU-1 to BLEU-4 of the corpus, from 0 to 1."""
    rouge_l: float
    """From 0 to 1."""
    cider_d: float
    """From 0 to 10; 0 for a single text, whatever it says."""
    text_bleu_counts: tuple[BleuCounts, ...]
    """Of each text, for intervals; see :func:`vidreason.evaluation.text.bleu.bleu_of_counts`."""
    text_rouge_l: tuple[float, ...]
    """Of each text, for intervals and paired differences."""
    text_cider_d: tuple[float, ...]
    """Of each text, with the weights of this corpus."""


def text_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> TextScores:
    """Tokenise as the official scorers do, and score.

    These are scores of a corpus: gather all ranks' texts first, each question once.

    Args:
        texts: The answers.
        references: For each answer, one or several references.

    Raises:
        ValueError: No texts, or a text without references.
    """
    hypotheses = [ptb_tokens(text) for text in texts]
    expected = [[ptb_tokens(text) for text in own] for own in references]
    found = bleu(hypotheses, expected)
    rouge, cider = rouge_l(hypotheses, expected), cider_d(hypotheses, expected)
    return TextScores(
        num_texts=len(texts),
        num_empty=sum(not tokens for tokens in hypotheses),
        bleu=found.corpus,
        rouge_l=sum(rouge) / len(rouge),
        cider_d=cider.corpus,
        text_bleu_counts=found.counts,
        text_rouge_l=rouge,
        text_cider_d=cider.texts,
    )
