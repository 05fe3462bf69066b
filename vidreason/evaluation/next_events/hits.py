"""Hits of the most probable computed event, over all and by kind of the event that came."""

from vidreason.evaluation.confidence.event_distributions import (
    event_probabilities,
    has_futures,
    next_event,
    top_event,
)
from vidreason.evaluation.items import Item, Items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL, OUTCOMES

HIT = "computed top-1 hit"


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
        value = None  # without events the answer says nothing, and counts 0
        if has_futures(row):
            value = float(top_event(event_probabilities(row.futures))[0] == next_event(row))
        item = Item(row.id, HIT, row.video_id, value)
        # A kind may be unknown, or have the name of the column of all.
        for group in dict.fromkeys(filter(None, (ALL, row.outcome_kind))):
            items.setdefault((row.corpus, group), []).append(item)
    # In the tables' order; other kinds follow by name.
    order = {name: number for number, name in enumerate((ALL, *OUTCOMES))}
    columns = sorted(items, key=lambda column: (order.get(column[1], len(order)), column[1]))
    return {column: items[column] for column in columns}
