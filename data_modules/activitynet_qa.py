"""ActivityNet-QA: open-ended questions with answers of one to five words (section 4.1.2)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, required_text, text_field
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_array
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt

_TYPES = frozenset("012345678")
_YOUTUBE_ID_LENGTH = 11


def read_activitynet_qa(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
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
    skipped = SkippedRows() if skipped is None else skipped
    answer_path = Path(root, f"{split}_a.json")
    note_file(answer_path)
    answers = _read_answers(answer_path, skipped) if answer_path.exists() else None
    unasked = set(answers or ())
    videos = VideoFolder(Path(root, "videos"), Path(root, "all_test"))

    def make(place: str, row: dict[str, Any]) -> Iterator[Example]:
        question_id = id_field(row, "question_id", place)
        unasked.discard(question_id)
        video_name = _video_name(id_field(row, "video_name", place))
        question = required_text(row, "question", place)
        if is_nan_like(question):
            raise MalformedRowError(place, f"field 'question' is {question!r}")
        answer, question_type = _answer(answers, question_id, place)
        yield Example(
            id=f"activitynet_qa:{split}:{question_id}",
            corpus="activitynet_qa",
            media=videos.find(f"v_{video_name}", video_name),
            video_id=video_name,
            prompt=open_ended_prompt(question),
            response=answer,
            answers=(answer,) if answer else (),
            question_type=question_type,
            meta={"question": question},
        )

    before = skipped.num_malformed
    rows = read_json_array(Path(root, f"{split}_q.json"), skipped)
    yield from examples_of(rows, make, skipped, named_by=("question_id",), unique=True)
    # A malformed question has not taken its answer: that is not one more.
    for question_id in sorted(unasked)[skipped.num_malformed - before :]:
        error = MalformedRowError(
            str(answer_path), f"question_id {question_id!r} is not in {split}_q.json"
        )
        skipped.record_malformed(error)


def _read_answers(path: Path, skipped: SkippedRows) -> dict[str, tuple[str, dict[str, Any]]]:
    """By question, where its answer is, and the row."""
    answers: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in read_json_array(path, skipped):
        try:
            question_id = id_field(row, "question_id", place)
        except MalformedRowError:
            continue  # its question is the malformed row
        if question_id in answers and answers[question_id][1] != row:
            row = row | {"answer": None}  # which of the two is meant?
        answers[question_id] = place, row
    return answers


def _answer(
    answers: dict[str, tuple[str, dict[str, Any]]] | None, question_id: str, place: str
) -> tuple[str, str]:
    """Answer and type of a question; empty where answers are hidden."""
    if answers is None:
        return "", ""
    if question_id not in answers:
        raise MalformedRowError(place, f"question_id {question_id!r} has no answer in the file")
    place, row = answers[question_id]
    kind = str(row.get("type")).strip()
    if kind not in _TYPES:
        raise MalformedRowError(
            place, f"field 'type' must be a number from 0 to 8, found {row.get('type')!r:.200}"
        )
    value = row.get("answer")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    answer = str(value) if is_number else text_field(row, "answer", place)
    if not answer:
        raise MalformedRowError(place, "field 'answer' is missing, empty, or there twice")
    return answer, kind


def _video_name(name: str) -> str:
    """The YouTube id; some copies have it with the ``v_`` of the file's name."""
    has_prefix = name.startswith("v_") and len(name) == _YOUTUBE_ID_LENGTH + len("v_")
    return name.removeprefix("v_") if has_prefix else name
