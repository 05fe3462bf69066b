"""Multiple-choice benchmarks that are a list of questions: one table of their files and fields.

Nothing is fetched: the annotation file and the videos lie where the benchmark's own instructions
put them. Names of files and fields are those of github OpenGVLab/Ask-Anything
(video_chat2/mvbench.ipynb), llyx97/TempCompass, BradyFU/Video-MME (the Hub's parquet file),
egoschema/EgoSchema and csbobby/STAR_Benchmark; IntentQA is written as NExT-QA is.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as parquet

from data_modules.annotation_files import (
    check_span,
    id_field,
    is_nan_like,
    require_file,
    required_text,
    seconds_field,
)
from data_modules.json_files import read_json_array, read_json_members
from data_modules.nextqa import read_nextqa
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

Row = dict[str, Any]

MVBENCH_FOLDERS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
"""Task -> where its videos lie below ``video``."""

_FOLDERS_OF_FRAMES = {"episodic_reasoning"}
TEMPCOMPASS_TASKS = ("multi-choice", "yes_no", "caption_matching")
"""``captioning``, which only a judge can score, is not read."""

_OPTION_LINE = re.compile(r"(?:(?:Option|Sentence|Caption) [A-D1-4]:|[A-D]\.) *(?P<text>.+)")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a benchmark keeps what an example needs; empty for what it has not."""

    rows: Callable[[Path, str], Iterator[tuple[str, Row]]]
    """Yields ``(place, row)`` of a split, in the order of the file."""
    id: str
    media: str
    """The video's path, with fields of the row in braces."""
    video: str
    question: str = "question"
    options: str = "options"
    option_text: str = ""
    """The text's field, where an option is an object."""
    answer: str = "answer"
    answer_form: Literal["index", "text", "letter"]
    question_type: str = ""
    """The type, with fields of the row in braces."""
    start: str = ""
    end: str = ""


def read_manifest(
    name: str, root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one multiple-choice example a row of the benchmark ``name``.

    A row that shows a folder of frames instead of a video is left out (MVBench's episodic
    reasoning).

    Raises:
        ValueError: A file is missing or malformed, a field is missing or empty, or an answer is
            none of the options.
    """
    skipped = SkippedRows() if skipped is None else skipped
    manifest = MANIFESTS[name]
    has_answers: bool | None = None
    for place, row in manifest.rows(Path(root), split):
        if row.get("task") in _FOLDERS_OF_FRAMES:
            skipped.record(place, "a folder of frames is no video")
            continue
        question = required_text(row, manifest.question, place)
        if is_nan_like(question):
            raise ValueError(f"{place}: field {manifest.question!r} is {question!r}")
        options = _options(row, manifest, place)
        index = _answer_index(row.get(manifest.answer), options, manifest, place)
        has_answers = index is not None if has_answers is None else has_answers
        if has_answers != (index is not None):
            raise ValueError(
                f"{place}: field {manifest.answer!r} is there in some rows and not in others; "
                "answers are there or hidden for a whole split"
            )
        start = seconds_field(row, manifest.start, place) if manifest.start else None
        end = seconds_field(row, manifest.end, place) if manifest.end else None
        check_span(start, end, place)
        video_id = id_field(row, manifest.video, place)
        response = "" if index is None else options[index]
        yield Example(
            id=f"{name}:{split}:{id_field(row, manifest.id, place)}",
            corpus=name,
            media=str(Path(root, manifest.media.format(**row))),
            video_id=video_id,
            start_seconds=start,
            end_seconds=end,
            prompt=multiple_choice_prompt(question, options),
            response=response,
            options=options,
            answer_index=index,
            answers=(response,) if response else (),
            question_type=manifest.question_type.format(**row),
            meta={"question": question},
        )


def read_intentqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield what :func:`data_modules.nextqa.read_nextqa` reads of IntentQA's files."""
    for example in read_nextqa(root, split, skipped):
        name = example.id.partition(":")[2]
        yield replace(example, id=f"intentqa:{name}", corpus="intentqa")


def _options(row: Row, manifest: Manifest, place: str) -> tuple[str, ...]:
    options = row.get(manifest.options)
    if manifest.option_text and isinstance(options, list):
        options = [
            option.get(manifest.option_text) if isinstance(option, dict) else option
            for option in options
        ]
    if (
        not isinstance(options, list)
        or not 2 <= len(options) <= 26
        or not all(isinstance(option, str) and option.strip() for option in options)
    ):
        raise ValueError(
            f"{place}: field {manifest.options!r} must hold 2 to 26 texts, found {options!r:.200}"
        )
    return tuple(option.strip() for option in options)


def _answer_index(
    answer: object, options: tuple[str, ...], manifest: Manifest, place: str
) -> int | None:
    """The place of the right option; None where the row has no answer."""
    if answer is None:
        return None
    index = -1
    if manifest.answer_form == "index" and type(answer) is int:
        index = answer
    elif manifest.answer_form == "letter" and isinstance(answer, str) and len(answer) == 1:
        index = ord(answer) - ord("A")
    elif manifest.answer_form == "text" and isinstance(answer, str) and answer.strip() in options:
        index = options.index(answer.strip())
    if not 0 <= index < len(options):
        raise ValueError(
            f"{place}: field {manifest.answer!r} is {answer!r:.200}, which names none of the "
            f"options {options!r:.200} by its {manifest.answer_form}"
        )
    return index


def _mvbench_rows(root: Path, split: str) -> Iterator[tuple[str, Row]]:
    """``json/<task>.json`` of each task, all of one split; a row's id is its task and number."""
    for task, folder in MVBENCH_FOLDERS.items():
        rows = read_json_array(root / "json" / f"{task}.json")
        for number, (place, row) in enumerate(rows):
            name = f"{folder}/{row.get('video')}"
            yield place, row | {"id": f"{task}_{number}", "task": task, "path": name}


def _tempcompass_rows(root: Path, split: str) -> Iterator[tuple[str, Row]]:
    """``questions/<task>.json``: video -> aspect -> questions, with their options in lines."""
    for task in TEMPCOMPASS_TASKS:
        for place, video, aspects in read_json_members(root / "questions" / f"{task}.json"):
            if not isinstance(aspects, dict) or not all(map(_is_rows, aspects.values())):
                raise ValueError(
                    f"{place}: video {video!r} must hold lists of objects by aspect, found "
                    f"{aspects!r:.200}"
                )
            for aspect, rows in aspects.items():
                for number, row in enumerate(rows):
                    yield (
                        place,
                        {
                            **_with_options(row, task, place),
                            "id": f"{task}_{video}_{aspect}_{number}",
                            "video": video,
                            "type": f"{aspect}/{task}",
                        },
                    )


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _with_options(row: Row, task: str, place: str) -> Row:
    """The row with its question, options and answer apart from each other."""
    question, answer = (required_text(row, name, place) for name in ("question", "answer"))
    if task == "yes_no":
        return {"question": question, "options": ["yes", "no"], "answer": answer.casefold()}
    asked, *lines = question.split("\n")
    options = [match["text"] if (match := _OPTION_LINE.fullmatch(line)) else "" for line in lines]
    right = _OPTION_LINE.fullmatch(answer)
    return {
        "question": asked,
        "options": options,
        "answer": right["text"].strip() if right else answer,
    }


def _video_mme_rows(root: Path, split: str) -> Iterator[tuple[str, Row]]:
    """``videomme/<split>-00000-of-00001.parquet``; the options begin with their letters."""
    for place, row in _parquet_rows(root / "videomme" / f"{split}-00000-of-00001.parquet"):
        options = row.get("options")
        if isinstance(options, list):
            matches = [_OPTION_LINE.fullmatch(str(option)) for option in options]
            row["options"] = ["" if match is None else match["text"] for match in matches]
        kinds = (required_text(row, name, place) for name in ("duration", "task_type"))
        yield place, row | {"type": "/".join(kinds)}


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield ``(place, row)``, numbered from 1."""
    require_file(path)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", row
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a sound parquet file: {error}; fetch it again") from error


def _egoschema_rows(root: Path, split: str) -> Iterator[tuple[str, Row]]:
    """``questions.json``: all for ``test``; for ``subset`` those of ``subset_answers.json``."""
    if split not in ("subset", "test"):
        raise ValueError(f"{root}: EgoSchema's splits are subset and test, found {split!r}")
    path, answer_path = root / "questions.json", root / "subset_answers.json"
    answers = {}
    if split == "subset":
        answers = {name: answer for _, name, answer in read_json_members(answer_path)}
    unasked = set(answers)
    for place, row in read_json_array(path):
        name = id_field(row, "q_uid", place)
        unasked.discard(name)
        if split == "test" or name in answers:
            options = [row.get(f"option {number}") for number in range(5)]
            yield place, row | {"options": options, "answer": answers.get(name)}
    if unasked:
        raise ValueError(
            f"{path} and {answer_path} do not hold the same questions: {len(unasked)} without a "
            f"question {sorted(unasked)[:3]}"
        )


def _star_rows(root: Path, split: str) -> Iterator[tuple[str, Row]]:
    """``STAR_<split>.json``; the type is what a question's id begins with."""
    for place, row in read_json_array(root / f"STAR_{split}.json"):
        yield place, row | {"type": id_field(row, "question_id", place).partition("_")[0]}


MANIFESTS: dict[str, Manifest] = {
    "mvbench": Manifest(
        rows=_mvbench_rows,
        id="id",
        media="video/{path}",
        video="video",
        options="candidates",
        answer_form="text",
        question_type="{task}",
        start="start",
        end="end",
    ),
    "tempcompass": Manifest(
        rows=_tempcompass_rows,
        id="id",
        media="videos/{video}.mp4",
        video="video",
        answer_form="text",
        question_type="{type}",
    ),
    "video_mme": Manifest(
        rows=_video_mme_rows,
        id="question_id",
        media="data/{videoID}.mp4",
        video="videoID",
        answer_form="letter",
        question_type="{type}",
    ),
    "egoschema": Manifest(
        rows=_egoschema_rows,
        id="q_uid",
        media="videos/{q_uid}.mp4",
        video="q_uid",
        answer_form="index",
    ),
    "star": Manifest(
        rows=_star_rows,
        id="question_id",
        media="Charades_v1_480/{video_id}.mp4",
        video="video_id",
        options="choices",
        option_text="choice",
        answer_form="text",
        question_type="{type}",
        start="start",
        end="end",
    ),
}
"""Benchmark -> its files and fields."""

read_mvbench = partial(read_manifest, "mvbench")
read_tempcompass = partial(read_manifest, "tempcompass")
read_video_mme = partial(read_manifest, "video_mme")
read_egoschema = partial(read_manifest, "egoschema")
read_star = partial(read_manifest, "star")
