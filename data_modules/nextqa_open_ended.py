"""NExT-QA open-ended (NExT-OE): the questions of NExT-QA with short answers instead of options."""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import id_field, read_csv_rows, required_text
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.nextqa import find_video, question_field, read_video_map, video_column
from data_modules.skipped_rows import SkippedRows
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
    A question that the file repeats (three of train: doc-doc/NExT-OE) is left out from the second
    time on, because predictions are filed under ``<video>`` and ``<qid>``.

    Raises:
        ValueError: A file or column is missing, a field is empty, or a video is not in the map.
    """
    skipped = SkippedRows() if skipped is None else skipped
    video_paths = read_video_map(root)
    second = _second_references(Path(root, f"add_reference_answer_{split}.json"))
    path = Path(root, f"{split}.csv")
    seen: set[tuple[str, str]] = set()
    for place, row in read_csv_rows(path, ("question", "answer", "qid", "type")):
        video_id = id_field(row, video_column(row, path), place)
        question_id = id_field(row, "qid", place)
        question, answer = question_field(row, place), required_text(row, "answer", place)
        if (video_id, question_id) in seen:
            skipped.record(place, "a question of this video and qid came before")
            continue
        seen.add((video_id, question_id))
        answers = (answer, second.get((video_id, question_id), answer))
        yield Example(
            id=f"nextqa_open_ended:{split}:{video_id}_{question_id}",
            corpus="nextqa_open_ended",
            media=str(Path(root, "NExTVideo", f"{find_video(video_paths, video_id, place)}.mp4")),
            video_id=video_id,
            prompt=open_ended_prompt(question),
            response=answer,
            answers=tuple(dict.fromkeys(answers)),
            question_type=required_text(row, "type", place),
            meta={"question": question},
        )


def _second_references(path: Path) -> dict[tuple[str, str], str]:
    note_file(path)
    if not path.exists():
        return {}
    references = {}
    for place, video_id, answers in read_json_members(path):
        if not isinstance(answers, dict):
            raise ValueError(f"{place}: expected an object of answers by qid, found {answers!r}")
        for question_id in answers:
            references[video_id, question_id] = required_text(answers, question_id, place)
    return references
