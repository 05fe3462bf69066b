"""One row of a review page as data, from a row of whatever origin."""

import json
from collections.abc import Mapping
from typing import Any

from vidreason.teacher.reviews import MAX_SECONDS, row_id, row_sha

MAX_ITEM_CHARS = 40_000
"""Characters of the texts of one row; what is beyond is cut, and such a row cannot be edited."""

_MAX_FACT_CHARS = 500
# Shown by themselves; all further fields of a row are facts.
_SHOWN = {
    *("id", "source", "video_id", "license_tag", "instruction", "causal_explanation"),
    *("step_times", "prediction", "predictions", "cause", "detail", "flags", "split", "ended"),
}


class _Room:
    """Cuts texts when together they have too many characters."""

    def __init__(self, max_chars: int) -> None:
        self.left = max_chars
        self.is_cut = False

    def text(self, value: object, max_chars: int = MAX_ITEM_CHARS) -> str:
        """The text of a value, or its beginning."""
        if value is None:
            return ""
        whole = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        part = whole[: max(min(self.left, max_chars), 0)]
        self.left -= len(part)
        # A fact that is cut changes nothing of the answer.
        self.is_cut |= len(part) < len(whole) and max_chars == MAX_ITEM_CHARS
        return part


def page_item(row: Mapping[str, Any], split: str, verdict: str) -> dict[str, Any]:
    """Return a row for ``review.js``; a field of another form than expected is shown as JSON.

    Args:
        row: As its file has it.
        split: Name of its file.
        verdict: ``accepted``, or the cause of the rejection.
    """
    room = _Room(MAX_ITEM_CHARS)
    item: dict[str, Any] = {
        "id": row_id(row),
        "row_sha": row_sha(row),
        "split": split,
        "verdict": verdict,
        "source": room.text(row.get("source"), _MAX_FACT_CHARS),
        "video_id": room.text(row.get("video_id"), _MAX_FACT_CHARS),
        "licence": room.text(row.get("license_tag"), _MAX_FACT_CHARS),
        "prompt": room.text(row.get("instruction")),
        "steps": _steps(row, room),
        "predictions": _predictions(row, room),
        "detail": room.text(row.get("detail"), _MAX_FACT_CHARS),
        "flags": [room.text(flag, _MAX_FACT_CHARS) for flag in _list(row.get("flags"))],
    }
    facts = [
        (room.text(name, _MAX_FACT_CHARS), room.text(value, _MAX_FACT_CHARS))
        for name, value in row.items()
        if name not in _SHOWN
    ]
    item["facts"] = [(name, value) for name, value in facts if value]
    item["is_cut"] = room.is_cut
    return item


def _steps(row: Mapping[str, Any], room: _Room) -> list[dict[str, Any]]:
    texts = _list(row.get("causal_explanation"))
    times = _list(row.get("step_times"))
    # Nobody knows whose they are: none is shown.
    if len(times) != len(texts):
        times = [{}] * len(texts)
    steps = []
    for text, span in zip(texts, times, strict=True):
        known = span if isinstance(span, Mapping) else {}
        start, end = (_number(known.get(name)) for name in ("start", "end"))
        steps.append({"text": room.text(text), "start": start, "end": end})
    return steps


def _predictions(row: Mapping[str, Any], room: _Room) -> list[dict[str, Any]]:
    items = [
        {
            "text": room.text(item.get("text")),
            "confidence": _number(item.get("confidence")),
            "justification": room.text(item.get("justification")),
        }
        for item in _list(row.get("predictions"))
        if isinstance(item, Mapping)
    ]
    # Without confidences, a row has its prediction in a field of its own.
    alone = room.text(row.get("prediction")) if not items else ""
    return items or [{"text": alone, "confidence": None, "justification": ""}] * bool(alone)


def _list(value: object) -> list[Any]:
    """The items of a list; anything else is its one item, and nothing is none."""
    if isinstance(value, list):
        return value
    return [] if value in (None, "") else [value]


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= MAX_SECONDS else None  # NaN compares as False
