"""NExT-QA open-ended (NExT-OE): the questions of NExT-QA with short answers instead of options."""

from collections.abc import Iterator

from data_modules.annotation_files import read_csv_rows
from data_modules.example_kinds import open_ended_example
from data_modules.files import Files
from data_modules.json_files import read_json_object
from data_modules.nextqa import NAMED_BY, next_videos, video_id_of
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example


def read_nextqa_open_ended(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    find = next_videos(files)
    references_file = f"add_reference_answer_{split}.json"
    has_second = files.exists(references_file)
    second = read_json_object(files, references_file) if has_second else {}

    def make(row: Row) -> Iterator[Example]:
        video_id, question_id = video_id_of(row), row.id("qid")
        question, answer = row.question(), row.required("answer")
        # The second reference is often equal to the first, or missing.
        references = second.get(video_id, {})
        if not isinstance(references, dict):
            raise row.malformed(
                f"its second reference must be in an object by qid, found {references!r:.200}"
            )
        reference = Row(references, row.location).text(question_id)
        yield open_ended_example(
            question,
            answer,
            id=f"nextqa_open_ended:{split}:{video_id}_{question_id}",
            media=find(video_id, row),
            video_id=video_id,
            answers=tuple(dict.fromkeys((answer, reference or answer))),  # without repeats
            question_type=row.required("type"),
        )

    rows = read_csv_rows(files, f"{split}.csv", ("question", "answer", "qid", "type"), skipped)
    yield from examples_of(rows, make, skipped, named_by=NAMED_BY, unique=True)
