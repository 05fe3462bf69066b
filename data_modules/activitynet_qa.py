"""ActivityNet-QA: open-ended questions with answers of one to five words (section 4.1.2)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, required_text, text_field
from data_modules.index_cache import note_file, note_folder
from data_modules.json_files import read_json_array
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt

VIDEO_EXTENSIONS = ("mp4", "mkv", "webm")


def read_activitynet_qa(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one open-ended example a question.

    Layout: ``<root>/<split>_q.json`` and ``<root>/<split>_a.json`` (arrays, joined here by
    ``question_id``, which holds both in memory: 32,000 rows at most), videos in
    ``<root>/videos/v_<video_name>.mp4`` (or ``.mkv``, ``.webm``). Without the answer file the
    references are hidden. An answer ``none`` is an answer; nothing is ever left out.

    Raises:
        ValueError: A file or field is missing, an id is there twice, or questions and answers do
            not match.
    """
    question_path, answer_path = Path(root, f"{split}_q.json"), Path(root, f"{split}_a.json")
    questions = _by_id(question_path, _read_question)
    note_file(answer_path)
    answers = _by_id(answer_path, _read_answer) if answer_path.exists() else None
    if answers is not None and answers.keys() != questions.keys():
        unanswered = sorted(questions.keys() - answers.keys())
        unasked = sorted(answers.keys() - questions.keys())
        raise ValueError(
            f"{question_path} and {answer_path} do not hold the same questions: {len(unanswered)} "
            "without an answer "
            f"{unanswered[:3]}, {len(unasked)} without a question {unasked[:3]}"
        )
    video_files = _video_files(Path(root, "videos"))
    for question_id, (video_name, question) in questions.items():
        answer, question_type = ("", "") if answers is None else answers[question_id]
        stem = f"v_{video_name}"
        yield Example(
            id=f"activitynet_qa:{split}:{question_id}",
            corpus="activitynet_qa",
            media=str(Path(root, "videos", video_files.get(stem, f"{stem}.mp4"))),
            video_id=video_name,
            prompt=open_ended_prompt(question),
            response=answer,
            answers=(answer,) if answer else (),
            question_type=question_type,
            meta={"question": question},
        )


def _read_question(item: dict[str, Any], place: str) -> tuple[str, str]:
    """Video and question."""
    question = required_text(item, "question", place)
    if is_nan_like(question):
        raise ValueError(f"{place}: field 'question' is {question!r}, which is no question")
    return id_field(item, "video_name", place), question


def _read_answer(item: dict[str, Any], place: str) -> tuple[str, str]:
    """Answer and type. The type is a number from 0 to 8; a copy may have it as a text."""
    kind = item.get("type")
    if str(kind) not in set("012345678"):
        raise ValueError(f"{place}: field 'type' must be a number from 0 to 8, found {kind!r}")
    if not text_field(item, "answer", place):
        raise ValueError(f"{place}: field 'answer' is missing or empty; found {sorted(item)}")
    return item["answer"], str(kind)


def _by_id(path: Path, read: Any) -> dict[str, tuple[str, str]]:  # noqa: ANN401 - one of the two
    by_id: dict[str, tuple[str, str]] = {}
    for place, item in read_json_array(path):
        question_id = id_field(item, "question_id", place)
        if question_id in by_id:
            raise ValueError(
                f"{place}: question_id {question_id!r} is there twice; keep one of the two rows"
            )
        by_id[question_id] = read(item, place)
    return by_id


def _video_files(folder: Path) -> dict[str, str]:
    """Stem -> file name; of two containers of one video, the first of ``VIDEO_EXTENSIONS``."""
    note_folder(folder)
    if not folder.is_dir():
        return {}
    names = {entry.name for entry in os.scandir(folder)}
    return {
        name.rpartition(".")[0]: name
        for extension in reversed(VIDEO_EXTENSIONS)
        for name in sorted(names)
        if name.endswith(f".{extension}")
    }
