"""How many programs of a run failed, and of what: a rate beside the accuracy.

The records of :mod:`vidreason.baselines.viper` say so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.tables import Field, Table, record_table

ProgramFailures = dict[str, Any]
"""Counts of one run; see :func:`program_failures`."""

_FIELDS = (
    Field("num_programs", "programs"),
    Field("failed", "failed %"),
    Field("kinds", "kinds of failures"),
)


def program_failures(
    runs: Mapping[str, Sequence[BenchmarkPrediction]],
) -> dict[str, ProgramFailures]:
    """Count the failed programs of runs, by name; runs without programs are left out.

    * ``num_programs``: questions that a program was to answer.
    * ``failed``: the share of those that the fallback answered.
    * ``kinds``: the number of failures of each kind, the most frequent first, as text.
    """
    counts = {name: _counts(rows) for name, rows in runs.items()}
    return {name: of_run for name, of_run in counts.items() if of_run["num_programs"]}


def program_failure_tables(counts: Mapping[str, ProgramFailures]) -> list[Table]:
    """Make a table of the failed programs of runs; none where there are no runs."""
    if not counts:
        return []
    title = "Program synthesis: programs that failed, whose questions the fallback answered"
    return [record_table(title, "run", counts, _FIELDS)]


def _counts(predictions: Sequence[BenchmarkPrediction]) -> ProgramFailures:
    # Programs that were run have this entry, even without a call.
    records = [row.record for row in predictions if "calls" in row.record]
    kinds = Counter(str(_kind(record)) for record in records if "failure" in record)
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return {
        "num_programs": len(records),
        "failed": kinds.total() / max(len(records), 1),
        "kinds": ", ".join(f"{kind} {number}" for kind, number in ordered),
    }


def _kind(record: Mapping[str, Any]) -> object:
    """The kind of a failure, in a record that may come from any file."""
    failure = record["failure"]
    return failure.get("kind", "unknown") if isinstance(failure, dict) else "unknown"
