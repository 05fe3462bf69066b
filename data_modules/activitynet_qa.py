"""ActivityNet-QA: open-ended questions with answers of one to five words (section 4.1.2)."""

from collections.abc import Iterator

from data_modules.example_kinds import open_ended_example
from data_modules.files import Files
from data_modules.json_files import read_json_array
from data_modules.rows import MalformedRowError, Row
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example

_TYPES = frozenset("012345678")
_YOUTUBE_ID_LENGTH = 11  # characters


def read_activitynet_qa(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one open-ended example a question.

    Layout: ``<root>/<split>_q.json`` and ``<root>/<split>_a.json`` (arrays, joined here by
    ``question_id``; the answers are held in memory: 32,000 rows at most), videos in
    ``<root>/videos`` or ``<root>/all_test``: ``v_<video_name>.mp4`` (or another container, or
    without the ``v_``). Without the answer file the references are hidden. An answer ``none`` is an
    answer. Copies have ids with ``v_``, types as texts, and answers as numbers.

    A question without its answer is malformed, and so is an answer without its question.

    Raises:
        ValueError: A file is missing or wrong as a whole.
    """
    question_file, answer_file = f"{split}_q.json", f"{split}_a.json"
    answers = _read_answers(files, answer_file, skipped) if files.exists(answer_file) else None
    unasked = set(answers or ())
    videos = VideoFolder(files, "videos", "all_test")

    def make(row: Row) -> Iterator[Example]:
        question_id = row.id("question_id")
        unasked.discard(question_id)
        video_name = row.id("video_name")
        if len(video_name) == _YOUTUBE_ID_LENGTH + len("v_"):  # copies have the file's name
            video_name = video_name.removeprefix("v_")
        question = row.question()
        answer = question_type = ""
        if answers is not None:
            if question_id not in answers:
                raise row.malformed(f"question_id {question_id!r} has no answer in the file")
            answer, question_type = _answer_and_type(answers[question_id])
        yield open_ended_example(
            question,
            answer,
            id=f"activitynet_qa:{split}:{question_id}",
            media=videos.find(f"v_{video_name}", video_name),
            video_id=video_name,
            question_type=question_type,
        )

    before = skipped.num_malformed
    rows = read_json_array(files, question_file, skipped)
    yield from examples_of(rows, make, skipped, named_by=("question_id",), unique=True)
    # A malformed question has not taken its answer: that is not one more.
    for question_id in sorted(unasked)[skipped.num_malformed - before :]:
        problem = f"question_id {question_id!r} is not in {question_file}"
        skipped.record_malformed(MalformedRowError(str(files.path(answer_file)), problem))


def _read_answers(files: Files, name: str, skipped: SkippedRows) -> dict[str, Row]:
    """The rows of the answer file by question."""
    answers: dict[str, Row] = {}
    for row in read_json_array(files, name, skipped):
        try:
            question_id = row.id("question_id")
        except MalformedRowError:
            continue  # its question is the malformed row
        if question_id in answers and answers[question_id] != row:
            row = row.adding({"answer": None})  # which of the two is meant?
        answers[question_id] = row
    return answers


def _answer_and_type(row: Row) -> tuple[str, str]:
    """Answer and type of a question."""
    kind = str(row.get("type")).strip()
    if kind not in _TYPES:
        raise row.malformed(
            f"field 'type' must be a number from 0 to 8, found {row.get('type')!r:.200}"
        )
    answer = row.number_or_text("answer")
    if not answer:
        raise row.malformed("field 'answer' is missing, empty, or there twice")
    return answer, kind
