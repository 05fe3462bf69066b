"""How many programs of a run failed, and of what: a rate beside the accuracy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.tables import Field, Table, record_table

_FIELDS = (
    Field("num_programs", "programs"),
    Field("failed", "failed"),
    Field("kinds", "kinds of failures"),
)


def program_failures(predictions: Sequence[BenchmarkPrediction]) -> dict[str, Any] | None:
    """Count the failed programs among predictions.

    Returns:
        ``num_programs``, questions that a program was to answer; ``failed``, the share of those
        that the fallback answered; ``kinds``, as text: the number of failures of each kind, the
        most frequent first. None without a program that was run.
    """
    records = [row.record for row in predictions if "calls" in row.record]
    if not records:
        return None
    kinds = Counter(record["failure"]["kind"] for record in records if "failure" in record)
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return {
        "num_programs": len(records),
        "failed": kinds.total() / len(records),
        "kinds": ", ".join(f"{kind} {number}" for kind, number in ordered),
    }


def program_failure_tables(by_run: Mapping[str, Sequence[BenchmarkPrediction]]) -> list[Table]:
    """Make a table of the failed programs of runs; none where no run has programs."""
    counted = {name: program_failures(rows) for name, rows in by_run.items()}
    records = {name: counts for name, counts in counted.items() if counts is not None}
    if not records:
        return []
    title = "Program synthesis: programs that failed, whose questions the fallback answered"
    return [record_table(title, "run", records, _FIELDS)]
