"""Scores of free answers, such as explanations and captions, beside their reference texts.

BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D are those of the official caption scorer; METEOR is left out:
the official one is a Java program, and what Python packages call by its name gives other numbers
(0.67 instead of 0.39 on ten captions). BERTScore needs a model. All of them reward words, not
truth: see :mod:`experiments.judge` for what an answer says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.report import Table, interval_row, interval_text
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_statistic,
)
from vidreason.evaluation.text.bertscore import BertScorer
from vidreason.evaluation.text.bleu import BleuCounts, bleu_of_counts
from vidreason.evaluation.text.ngrams import MAX_ORDER
from vidreason.evaluation.text.scores import text_scores


@dataclass(frozen=True, kw_only=True)
class FreeTextScores:
    """Scores of one run's free answers on one corpus; intervals are over videos."""

    corpus: str
    question_type: str
    num_texts: int
    num_videos: int
    num_empty: int
    """Answers without a word, those on unreadable videos among them. They count."""
    bleu: tuple[Interval, ...]
    """BLEU-1 to BLEU-4, from 0 to 1."""
    rouge_l: Interval
    """From 0 to 1."""
    cider_d: Interval
    """From 0 to 10. Its weights are of all references of this corpus, whichever videos are drawn:
    it cannot be compared with that of another set of questions."""
    bert_score: Interval | None
    """Mean F1; None without a model."""


def free_text_scores(
    predictions: Sequence[BenchmarkPrediction], scorer: BertScorer | None = None
) -> list[FreeTextScores]:
    """Score the answers that have reference texts, by corpus and type of question.

    These are scores of a corpus: gather all ranks' rows first, each question once.

    Args:
        predictions: Of one run; rows without reference texts are left out.
        scorer: For BERTScore; None to leave it out.
    """
    by_kind: dict[tuple[str, str], list[BenchmarkPrediction]] = {}
    for row in predictions:
        if row.reference_texts:
            by_kind.setdefault((row.corpus, row.question_type), []).append(row)
    return [_scores(*kind, by_kind[kind], scorer) for kind in sorted(by_kind)]


def free_text_table(by_run: Mapping[str, FreeTextScores]) -> Table:
    """Scores of several runs on one corpus and type of question, times 100 except CIDEr-D."""
    first = next(iter(by_run.values()))
    kind = f"{first.corpus} {first.question_type}".strip()
    with_bert_score = first.bert_score is not None
    return Table(
        f"{kind}: free answers beside their references, n={first.num_texts}, 95% interval over "
        f"{first.num_videos} videos",
        (
            "run",
            *(f"BLEU-{order}" for order in range(1, len(first.bleu) + 1)),
            "ROUGE-L",
            "CIDEr-D (0-10)",
            *(["BERTScore F1"] if with_bert_score else []),
            "empty",
        ),
        tuple(
            (
                name,
                *map(interval_text, scores.bleu),
                interval_text(scores.rouge_l),
                interval_text(scores.cider_d, factor=1.0, decimals=2),
                *([interval_text(scores.bert_score)] if scores.bert_score else []),
                str(scores.num_empty),
            )
            for name, scores in by_run.items()
        ),
    )


def free_text_rows(scores: Sequence[FreeTextScores]) -> list[dict[str, str | int | float | None]]:
    """Scores as plain rows for JSON; None where a number is not defined."""
    return [
        {
            "corpus": own.corpus,
            "question_type": own.question_type,
            "num_texts": own.num_texts,
            "num_videos": own.num_videos,
            "num_empty": own.num_empty,
            **{
                name: value
                for order, interval in enumerate(own.bleu, start=1)
                for name, value in interval_row(f"bleu_{order}", interval).items()
            },
            **interval_row("rouge_l", own.rouge_l),
            **interval_row("cider_d", own.cider_d),
            **(interval_row("bert_score_f1", own.bert_score) if own.bert_score else {}),
        }
        for own in scores
    ]


def _scores(
    corpus: str, question_type: str, rows: Sequence[BenchmarkPrediction], scorer: BertScorer | None
) -> FreeTextScores:
    texts = ["" if row.error else row.output for row in rows]
    references = [row.reference_texts for row in rows]
    videos = [row.video_id for row in rows]
    found = text_scores(texts, references)
    counts = np.array([[*own.matches, *own.guesses, *own[2:]] for own in found.text_bleu_counts])

    def bleu_n(places: NDArray[np.intp], order: int) -> float:
        sums = counts[places].sum(axis=0).tolist()
        drawn = BleuCounts(tuple(sums[:MAX_ORDER]), tuple(sums[MAX_ORDER:-2]), *sums[-2:])
        return bleu_of_counts([drawn])[order - 1]

    bert_score = None
    if scorer is not None:
        own = [score.f1 for score in scorer.score(texts, references)]
        bert_score = bootstrap_interval(own, videos, limits=None)
    return FreeTextScores(
        corpus=corpus,
        question_type=question_type,
        num_texts=found.num_texts,
        num_videos=len(set(videos)),
        num_empty=found.num_empty,
        bleu=tuple(
            bootstrap_statistic(partial(bleu_n, order=order), videos)
            for order in range(1, MAX_ORDER + 1)
        ),
        rouge_l=bootstrap_interval(found.text_rouge_l, videos),
        cider_d=bootstrap_interval(found.text_cider_d, videos, limits=None),
        bert_score=bert_score,
    )
