"""ActivityNet-QA: open-ended questions with answers of one to five words (section 4.1.2)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import read_json
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt

VIDEO_EXTENSIONS = ("mp4", "mkv", "webm")


def read_activitynet_qa(root: str, split: str) -> Iterator[Example]:
    """Yield one open-ended example a question.

    Layout: ``<root>/<split>_q.json`` and ``<root>/<split>_a.json`` (arrays, joined here by
        ``question_id``), videos in
    ``<root>/videos/v_<video_name>.mp4`` (or ``.mkv``, ``.webm``). Without the answer file the
    references are hidden.

    Raises:
        ValueError: A file or field is missing, an id is there twice, or questions and answers do
            not match.
    """
    question_path, answer_path = Path(root, f"{split}_q.json"), Path(root, f"{split}_a.json")
    questions = _by_id(question_path, ("video_name", "question"))
    answers = _by_id(answer_path, ("answer", "type")) if answer_path.exists() else None
    if answers is not None and answers.keys() != questions.keys():
        unanswered = sorted(questions.keys() - answers.keys())
        unasked = sorted(answers.keys() - questions.keys())
        raise ValueError(
            f"{question_path} and {answer_path} do not hold the same questions: {len(unanswered)} "
            "without an answer "
            f"{unanswered[:3]}, {len(unasked)} without a question {unasked[:3]}"
        )
    video_files = _video_files(Path(root, "videos"))
    for question_id, question in questions.items():
        reference = None if answers is None else answers[question_id]
        answer = "" if reference is None else str(reference["answer"])
        stem = f"v_{question['video_name']}"
        yield Example(
            id=f"activitynet_qa:{split}:{question_id}",
            corpus="activitynet_qa",
            media=str(Path(root, "videos", video_files.get(stem, f"{stem}.mp4"))),
            video_id=question["video_name"],
            prompt=open_ended_prompt(question["question"]),
            response=answer,
            answers=(answer,) if answer else (),
            question_type="" if reference is None else str(reference["type"]),
            meta={"question": question["question"]},
        )


def _by_id(path: Path, required: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    items = read_json(path)
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a JSON array of objects, found {type(items).__name__}")
    by_id: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(items):
        missing = [name for name in ("question_id", *required) if name not in item]
        if missing:
            raise ValueError(
                f"{path}: item {number} has no field {', '.join(map(repr, missing))}; found "
                f"{sorted(item)}"
            )
        if item["question_id"] in by_id:
            raise ValueError(
                f"{path}: item {number}: question_id {item['question_id']!r} is there twice"
            )
        by_id[item["question_id"]] = item
    return by_id


def _video_files(folder: Path) -> dict[str, str]:
    """Stem -> file name; of two containers of one video, the first of ``VIDEO_EXTENSIONS``."""
    if not folder.is_dir():
        return {}
    names = {entry.name for entry in os.scandir(folder)}
    return {
        name.rpartition(".")[0]: name
        for extension in reversed(VIDEO_EXTENSIONS)
        for name in sorted(names)
        if name.endswith(f".{extension}")
    }
