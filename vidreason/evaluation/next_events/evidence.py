"""Fall of the computed probability as evidence is taken away: a model that knows what it sees."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidreason.evaluation.confidence.event_distributions import (
    event_probabilities,
    has_futures,
    top_event,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    paired_difference,
)
from vidreason.evaluation.tables import NOT_APPLICABLE, Table, value_text


def evidence_falls(
    runs: Mapping[str, Sequence[BenchmarkPrediction]], fit: TemperatureFit | None
) -> dict[str, dict[str, Any]]:
    """The mean probability of the most probable event in each run, and the fall to the next run.

    All numbers are of the questions that have events in each of the runs that have any; intervals
    are over videos. By run: ``num_questions``, ``num_videos``, ``top``, the mean probability;
    ``next``, the name of the following run; and ``fall``, the paired difference to it. A run
    without events has an empty record.

    Args:
        runs: Rows that ask for the next event, of runs that see less and less.
        fit: See :func:`event_probabilities`.
    """
    tops = {
        name: {
            row.id: top_event(event_probabilities(row.futures, fit))[1]
            for row in rows
            if has_futures(row)
        }
        for name, rows in runs.items()
    }
    names = [name for name, of_run in tops.items() if of_run]
    # Questions that all runs have a distribution for: falls are paired.
    paired = (
        [row for row in runs[names[0]] if all(row.id in tops[name] for name in names)]
        if names
        else []
    )
    records: dict[str, dict[str, Any]] = {name: {} for name in runs}
    if not paired:
        return records
    videos = [row.video_id for row in paired]
    values = {name: [tops[name][row.id] for row in paired] for name in names}
    for number, name in enumerate(names):
        following = names[number + 1] if number + 1 < len(names) else None
        fall: Interval | None = None
        if following is not None:
            fall = paired_difference(values[name], values[following], videos)
        records[name] = {
            "num_questions": len(paired),
            "num_videos": len(set(videos)),
            "top": bootstrap_interval(values[name], videos),
            "next": following,
            "fall": fall,
        }
    return records


def evidence_table(corpus: str, kind: str, records: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a run, which sees less than the one above it.

    Args:
        corpus: The questions'.
        kind: Of the probabilities: as they are, or at a temperature.
        records: Of :func:`evidence_falls`, of which one at least is not empty.
    """
    first = next(record for record in records.values() if record)
    return Table(
        f"{corpus}: mean probability of the most probable event {kind} in %, "
        f"n={first['num_questions']}, 95% interval over {first['num_videos']} videos",
        ("run", "probability", "less the next run's"),
        tuple(
            (name, value_text(record["top"]), value_text(record["fall"], sign="+"))
            if record
            else (name, NOT_APPLICABLE, "-")
            for name, record in records.items()
        ),
    )
