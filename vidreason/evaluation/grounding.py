"""Temporal grounding: how well a predicted span of time meets the true ones.

The values of NExT-GQA's ``eval_ground.py`` (github doc-doc/NExT-GQA, code/TempGQA): of one
question, IoU and IoP are each the largest over the true spans, which need not be the same one.
"""

from collections.abc import Sequence

Span = tuple[float, float]
"""Start and end in seconds, the start not after the end."""


def max_iou(predicted: Span, truths: Sequence[Span]) -> float:
    """Intersection over union, the largest over ``truths``; 0 for a span without length."""
    return max(_share(predicted, truth, _union(predicted, truth)) for truth in truths)


def max_iop(predicted: Span, truths: Sequence[Span]) -> float:
    """Intersection over the predicted span, the largest over ``truths``.

    A span without length is a moment: 1 inside of a true span, 0 elsewhere.
    """
    start, end = predicted
    if start == end:
        return float(any(first <= start <= last for first, last in truths))
    return max(_share(predicted, truth, end - start) for truth in truths)


def _share(predicted: Span, truth: Span, whole: float) -> float:
    overlap = min(predicted[1], truth[1]) - max(predicted[0], truth[0])
    return max(overlap, 0.0) / whole if whole > 0 else 0.0


def _union(one: Span, other: Span) -> float:
    return max(one[1], other[1]) - min(one[0], other[0])
