"""Tokens that systems read and write a question: what their answers cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.tables import Field, Table, record_table

_FIELDS = (
    Field("num_visual_tokens", "of the video"),
    Field("num_prompt_tokens", "of the prompt"),
    Field("num_generated_tokens", "generated"),
)

TokenCounts = Mapping[str, Mapping[str, Mapping[str, int | None]]]
"""By corpus, run and field of a prediction; None where the run has answered nothing."""


def token_counts(runs: Mapping[str, Sequence[BenchmarkPrediction]]) -> TokenCounts:
    """Return mean numbers of tokens a question, of corpora in which a system says how many it saw.

    Questions about unreadable videos, and such as a system cannot answer, are left out.
    """
    known = dict.fromkeys(
        row.corpus for rows in runs.values() for row in rows if row.num_visual_tokens
    )
    return {
        corpus: {
            name: _means([row for row in rows if row.corpus == corpus])
            for name, rows in runs.items()
            if any(row.corpus == corpus for row in rows)
        }
        for corpus in known
    }


def token_tables(counts: TokenCounts) -> list[Table]:
    """Return a table a corpus."""
    return [
        record_table(f"{corpus}: tokens per question, mean", "run", of_corpus, _FIELDS)
        for corpus, of_corpus in counts.items()
    ]


def _means(rows: Sequence[BenchmarkPrediction]) -> dict[str, int | None]:
    answered = [row for row in rows if not row.error and not row.missing_capability]
    # Whole numbers: files may hold counts beyond all floats.
    return {
        field.name: _rounded([getattr(row, field.name) for row in answered]) for field in _FIELDS
    }


def _rounded(values: Sequence[Any]) -> int | None:
    # The mean, halves rounded up, in whole numbers alone.
    return (2 * sum(values) + len(values)) // (2 * len(values)) if values else None
