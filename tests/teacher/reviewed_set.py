"""A small instruction set with invented rows, and review files of it."""

import json
from pathlib import Path
from typing import Any

from vidreason.teacher.reviews import row_sha

HOSTILE = (
    "</script><script>document.title = 'broken'</script><img src=x onerror=alert(1)> "
    "<!-- <b>bold</b> & \"'\u2028\u202egnp.exe\u202c \x1b[31m \ud800 {{7*7}} javascript:alert(1)"
)


def accepted_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row in the format of the reader, as the set's writer makes it."""
    row = {
        "id": f"world-{number:04d}",
        "source": "world" if number % 2 else "ego4d",
        "video_id": f"v{number}",
        "media": f"clips/v{number}.mp4",
        "start": None,
        "end": None,
        "instruction": "Explain step by step.",
        "causal_explanation": [f"Ball {number} rolls.", "It hits the wall."],
        "step_times": [{"start": 0.0, "end": 1.5}, {"start": 1.5, "end": None}],
        "prediction": "It stops.",
        "predictions": [
            {"text": "It stops.", "confidence": 0.7, "justification": "The wall is solid."},
            {"text": "It bounces back.", "confidence": 0.2, "justification": ""},
        ],
        "teacher": "scripted",
        "teacher_prompt_sha": "ab" * 32,
        "created": "2026-01-01T00:00:00Z",
        "license_tag": "CC0-1.0" if number % 2 else "ego4d",
        "flags": ["unsupported step 2"] if number % 3 == 0 else [],
    }
    return row | changes


def rejected_row(number: int, cause: str = "temporal", **changes: Any) -> dict[str, Any]:
    """A row of ``rejected.jsonl``."""
    row = accepted_row(number)
    for name in ("instruction", "teacher", "teacher_prompt_sha", "flags"):
        del row[name]
    row |= {"split": "train", "ended": "rejected", "cause": cause, "detail": "step 2 is late"}
    return row | changes


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def review_of(row: dict[str, Any], decision: str, **changes: Any) -> dict[str, Any]:
    """A row of a review file."""
    review = {
        "id": row["id"],
        "row_sha": row_sha(row),
        "decision": decision,
        "reviewer": "ann",
        "reviewed_at": "2026-02-01T10:00:00.000Z",
    }
    if decision == "reject":
        review["reason"] = "wrong_cause"
    if decision == "edit":
        review["steps"] = [{"text": "The ball was kicked.", "start": 0.5, "end": 1}]
        review["predictions"] = [{"text": "It stays.", "confidence": 0.9, "justification": ""}]
    return review | changes
