"""Scores of an anticipation network on recordings that it did not learn from."""

from collections.abc import Sequence
from typing import Any

from vidreason.baselines.anticipation.anticipator import Anticipator, observed_and_true
from vidreason.baselines.anticipation.segments import Recording, cut_at, mean_over_classes

OBSERVED_SHARES = (0.2, 0.3)
PREDICTED_SHARES = (0.1, 0.2, 0.3, 0.5)
"""The official protocol: shares of the whole video."""


def held_out_scores(anticipator: Anticipator, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return the scores as JSON holds them, and what they are counts of.

    ``moc`` is the mean over classes by share observed and share predicted, of recordings without a
    known end of the observed part; ``next_label_accuracy`` the share of the others whose next label
    is the likeliest one, and of those ``num_unknown`` have one that was not learnt.
    """
    whole = [one for one in recordings if one.observed is None]
    cut = [one for one in recordings if one.observed is not None]
    scores: dict[str, Any] = {"num_recordings": len(recordings)}
    if whole:
        scores["moc"] = {
            f"{seen:g}": {
                f"{ahead:g}": _moc(anticipator, whole, seen, ahead) for ahead in PREDICTED_SHARES
            }
            for seen in OBSERVED_SHARES
        }
    if cut:
        hits, unknown = _next_label_hits(anticipator, cut)
        scores["next_label_accuracy"] = hits / len(cut)
        scores["num_unknown"] = unknown
    return scores


def scores_text(scores: dict[str, Any]) -> str:
    """Return the scores as a table or a line."""
    lines = [f"held out: {scores['num_recordings']} recordings"]
    for seen, by_share in scores.get("moc", {}).items():
        values = (f"{float(ahead):.0%} {value:.4f}" for ahead, value in by_share.items())
        lines.append(f"mean over classes, {float(seen):.0%} observed, next {', '.join(values)}")
    if "next_label_accuracy" in scores:
        lines.append(
            f"next label: {scores['next_label_accuracy']:.1%} right; "
            f"{scores['num_unknown']} have one that was not learnt"
        )
    return "\n".join(lines)


def _moc(
    anticipator: Anticipator, recordings: Sequence[Recording], seen: float, ahead: float
) -> float:
    pairs = []
    for recording in recordings:
        observed, truth = observed_and_true(recording.segments, seen, ahead)
        # Shares of a very short video are rounded down to no frame.
        if observed and truth:
            future = anticipator.future(observed, len(truth), recording.length)
            pairs.append((truth, future))
    return mean_over_classes(pairs)


def _next_label_hits(anticipator: Anticipator, recordings: Sequence[Recording]) -> tuple[int, int]:
    hits = unknown = 0
    for recording in recordings:
        assert recording.observed is not None
        before, after = cut_at(recording.segments, recording.observed)
        # What was observed last goes on until the next event, which is the last segment.
        label = after[-1].label if after else ""
        # Counted beside the hits, of which such a label is never one.
        unknown += label not in anticipator.index
        best = int(anticipator.next_labels(before).log_probabilities.argmax())
        hits += anticipator.labels[best] == label
    return hits, unknown
