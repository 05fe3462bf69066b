"""Scores of free answers, such as explanations and captions, beside their reference texts.

BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D are those of the official caption scorer; METEOR is left out:
the official one is a Java program, and what Python packages call by its name gives other numbers
(0.67 instead of 0.39 on ten captions). BERTScore needs a model. All of them reward words, not
truth: see :mod:`experiments.judge` for what an answer says.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.statistics.intervals import bootstrap_interval, bootstrap_statistic
from vidreason.evaluation.tables import Field, Table, record_table
from vidreason.evaluation.text.bertscore import BertScorer
from vidreason.evaluation.text.bleu import BleuCounts, bleu_counts, bleu_of_counts
from vidreason.evaluation.text.cider import cider_d
from vidreason.evaluation.text.ngrams import MAX_ORDER
from vidreason.evaluation.text.ptb_tokenizer import ptb_tokens
from vidreason.evaluation.text.rouge import rouge_l

_FIELDS = (
    *(Field(f"bleu_{order}", f"BLEU-{order}") for order in range(1, MAX_ORDER + 1)),
    Field("rouge_l", "ROUGE-L"),
    Field("cider_d", "CIDEr-D (0-10)", factor=1.0, decimals=2),
    Field("bert_score_f1", "BERTScore F1"),
    Field("num_empty", "empty"),
)

FreeTextScores = dict[str, Any]
"""Scores of one run's free answers on one corpus and type of question; see
:func:`free_text_scores`."""


def free_text_scores(
    predictions: Sequence[BenchmarkPrediction], scorer: BertScorer | None = None
) -> list[FreeTextScores]:
    """Score the answers that have reference texts, by corpus and type of question.

    These are scores of a corpus: gather all ranks' rows first, each question once. Intervals are
    over videos.

    * ``num_texts``, ``num_videos``, and ``num_empty``: answers without a word, those on unreadable
      videos among them. They count.
    * ``bleu_1`` to ``bleu_4`` and ``rouge_l``, from 0 to 1.
    * ``cider_d``, from 0 to 10. Its weights are of all references of this corpus, whichever videos
      are drawn: it cannot be compared with that of another set of questions.
    * ``bert_score_f1``: mean F1; only with ``scorer``.

    Args:
        predictions: Of one run; rows without reference texts are left out.
        scorer: For BERTScore; None to leave it out.
    """
    by_kind: dict[tuple[str, str], list[BenchmarkPrediction]] = {}
    for row in predictions:
        if row.reference_texts and not row.missing_capability:
            by_kind.setdefault((row.corpus, row.question_type), []).append(row)
    return [_scores(*kind, by_kind[kind], scorer) for kind in sorted(by_kind)]


def free_text_tables(by_run: Mapping[str, Sequence[FreeTextScores]]) -> list[Table]:
    """A table for each corpus and type of question: scores of runs, times 100 except CIDEr-D."""
    by_kind: dict[str, dict[str, FreeTextScores]] = {}
    for name, scores in by_run.items():
        for scored in scores:
            kind = f"{scored['corpus']} {scored['question_type']}".strip()
            by_kind.setdefault(kind, {})[name] = scored
    tables = []
    for kind, of_kind in by_kind.items():
        first = next(iter(of_kind.values()))
        title = (
            f"{kind}: free answers beside their references, n={first['num_texts']}, 95% interval "
            f"over {first['num_videos']} videos"
        )
        fields = [field for field in _FIELDS if field.name in first]
        tables.append(record_table(title, "run", of_kind, fields))
    return tables


def _scores(
    corpus: str, question_type: str, rows: Sequence[BenchmarkPrediction], scorer: BertScorer | None
) -> FreeTextScores:
    texts = ["" if row.error else row.output for row in rows]
    references = [row.reference_texts for row in rows]
    videos = [row.video_id for row in rows]
    # Words as the official scorers cut them.
    hypotheses = [ptb_tokens(text) for text in texts]
    expected = [[ptb_tokens(text) for text in of_text] for of_text in references]
    # (texts, 2 * MAX_ORDER + 2): BLEU of a resample is that of its summed counts.
    counts = np.array(
        [
            [*of_text.matches, *of_text.guesses, *of_text[2:]]
            for of_text in bleu_counts(hypotheses, expected)
        ]
    )

    def bleu_n(indices: NDArray[np.intp], order: int) -> float:
        sums = counts[indices].sum(axis=0).tolist()
        # Matches and guesses by order, then the two lengths, as they were joined above.
        drawn = BleuCounts(tuple(sums[:MAX_ORDER]), tuple(sums[MAX_ORDER:-2]), *sums[-2:])
        return bleu_of_counts([drawn])[order - 1]

    scores: FreeTextScores = {
        "corpus": corpus,
        "question_type": question_type,
        "num_texts": len(texts),
        "num_videos": len(set(videos)),
        "num_empty": sum(not tokens for tokens in hypotheses),
        **{
            f"bleu_{order}": bootstrap_statistic(partial(bleu_n, order=order), videos)
            for order in range(1, MAX_ORDER + 1)
        },
        "rouge_l": bootstrap_interval(rouge_l(hypotheses, expected), videos),
        "cider_d": bootstrap_interval(cider_d(hypotheses, expected), videos, limits=None),
    }
    if scorer is not None:
        f1 = [score.f1 for score in scorer.score(texts, references)]
        scores["bert_score_f1"] = bootstrap_interval(f1, videos, limits=None)
    return scores
