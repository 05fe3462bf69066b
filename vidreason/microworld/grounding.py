"""When the answers to the world's questions can be seen, in NExT-GQA's file format."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidreason.microworld.questions import NUM_OPTIONS, Question
from vidreason.microworld.renderer import FRAMES_PER_SECOND
from vidreason.microworld.simulation import VIDEO_SECONDS

MARGIN_SECONDS = 0.5
"""So much before and after an event belongs to what shows it."""


def write_questions(
    folder: Path, split: str, rows: Sequence[tuple[dict[str, Any], Question]]
) -> None:
    """Write ``<split>.csv`` and ``gsub_<split>.json``.

    As in the real files, there are no descriptive questions, the column ``video`` is called
    ``video_id``, and answers are texts.

    Args:
        folder: The corpus' folder, which is made.
        split: ``val`` or ``test``.
        rows: NExT-QA's rows with their questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, Any]] = []
    videos: dict[str, dict[str, Any]] = {}
    for row, question in rows:
        if question.type.startswith("D"):
            continue
        assert question.seen_at is not None, "causal and temporal questions are a matter of time"
        kept.append({**row, "video_id": row["video"], "answer": question.answer})
        video = videos.setdefault(
            row["video"], {"duration": VIDEO_SECONDS, "location": {}, "fps": FRAMES_PER_SECOND}
        )
        start = max(question.seen_at[0] - MARGIN_SECONDS, 0.0)
        end = min(question.seen_at[1] + MARGIN_SECONDS, VIDEO_SECONDS)
        video["location"][str(row["qid"])] = [[round(start, 1), round(end, 1)]]
    columns = ["video_id", "frame_count", "width", "height", "question", "answer", "qid", "type"]
    columns += [f"a{index}" for index in range(NUM_OPTIONS)]
    with (folder / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    (folder / f"gsub_{split}.json").write_text(json.dumps(videos))
