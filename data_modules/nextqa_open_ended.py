"""NExT-QA open-ended (NExT-OE): the questions of NExT-QA with short answers instead of options."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, read_csv_rows, required_text, text_field
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.nextqa import NAMED_BY, NextVideos, question_field, video_column
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt


def read_nextqa_open_ended(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one open-ended example a row.

    Layout: ``<root>/<split>.csv`` (columns ``video``, ``question``, ``answer``, ``qid``, ``type``),
    ``<root>/map_vid_vidorID.json``, ``<root>/NExTVideo/<map[video]>.mp4``, and where the split has
    second references (test) ``<root>/add_reference_answer_<split>.json``:
    ``{"<video>": {"<qid>": "<answer>"}}``. The response is the csv's answer; ``answers`` has both.
    Known of the released files: three questions of train are there twice. They are malformed from
    the second time on, because predictions are filed under ``<video>`` and ``<qid>``.

    Raises:
        ValueError: A file or column is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    videos = NextVideos(root)
    second = _second_references(Path(root, f"add_reference_answer_{split}.json"))
    path = Path(root, f"{split}.csv")

    def make(place: str, row: dict[str, str]) -> Iterator[Example]:
        video_id = id_field(row, video_column(row, path), place)
        question_id = id_field(row, "qid", place)
        question, answer = question_field(row, place), required_text(row, "answer", place)
        answers = (answer, _reference(second, video_id, question_id, place) or answer)
        yield Example(
            id=f"nextqa_open_ended:{split}:{video_id}_{question_id}",
            corpus="nextqa_open_ended",
            media=videos.path(video_id, place),
            video_id=video_id,
            prompt=open_ended_prompt(question),
            response=answer,
            answers=tuple(dict.fromkeys(answers)),
            question_type=required_text(row, "type", place),
            meta={"question": question},
        )

    rows = read_csv_rows(path, ("question", "answer", "qid", "type"), skipped)
    yield from examples_of(rows, make, skipped, named_by=NAMED_BY, unique=True)


def _second_references(path: Path) -> dict[str, Any]:
    """By video, what the file of second references holds of it."""
    note_file(path)
    if not path.exists():
        return {}
    return {video_id: answers for _, video_id, answers in read_json_members(path)}


def _reference(second: dict[str, Any], video_id: str, question_id: str, place: str) -> str:
    """The second reference of a question; empty where it has none."""
    answers = second.get(video_id, {})
    if not isinstance(answers, dict):
        raise MalformedRowError(
            place, f"its second reference must be in an object by qid, found {answers!r:.200}"
        )
    return text_field(answers, question_id, place)
