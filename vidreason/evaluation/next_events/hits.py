"""Hits of the most probable computed event: over all, with its reason, by kind of what came."""

from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.confidence.event_distributions import (
    event_probabilities,
    has_futures,
    next_event,
    top_event,
)
from vidreason.evaluation.explanations import same_words
from vidreason.evaluation.items import Item, Items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL, OUTCOMES, has_justification, is_event

HIT = "computed top-1 hit"
JUSTIFIED = "justified hit"
"""Column of hits whose computed justification is the reference's, word for word, as that of the
printed ones is; over the questions whose reference justifies the event."""


def computed_hits(predictions: list[BenchmarkPrediction]) -> Items:
    """The items of one run on one corpus; see :mod:`vidreason.evaluation.items`.

    Args:
        predictions: Rows that ask for the next event. One without events counts as wrong; a run
            that computes none has no items.
    """
    items: Items = {}
    if not any(map(has_futures, predictions)):
        return items
    for row in predictions:
        value = justified = None  # without events the answer says nothing, and counts 0
        if has_futures(row):
            event = top_event(event_probabilities(row.futures))[0]
            hit = event == next_event(row)
            value, justified = float(hit), float(hit and _is_justified(row, event))
        groups = {ALL: value}
        if has_justification(row):
            groups[JUSTIFIED] = justified
        # A kind may be unknown, or have the name of one of these columns.
        if row.outcome_kind:
            groups.setdefault(row.outcome_kind, value)
        for group, score in groups.items():
            item = Item(row.id, HIT, row.video_id, score)
            items.setdefault((row.corpus, group), []).append(item)
    # In the tables' order; other kinds follow by name.
    order = {name: number for number, name in enumerate((ALL, JUSTIFIED, *OUTCOMES))}
    columns = sorted(items, key=lambda column: (order.get(column[1], len(order)), column[1]))
    return {column: items[column] for column in columns}


def _is_justified(row: BenchmarkPrediction, event: str) -> bool:
    """Tell whether a computed future says the event with the reference's justification of it."""
    reasons = [reason for true, reason in row.reference_justifications if is_event(row, true)]
    return any(
        normalise_answer(future.event) == event and same_words(future.justification, reason)
        for future in row.futures
        for reason in reasons
    )
