"""Multiple-choice benchmarks that are a list of questions: one table of their files and fields.

Nothing is fetched: the annotation file and the videos lie where the benchmark's own instructions
put them. Names of files and fields are those of github OpenGVLab/Ask-Anything
(video_chat2/mvbench.ipynb), llyx97/TempCompass, BradyFU/Video-MME (the Hub's parquet file),
egoschema/EgoSchema and csbobby/STAR_Benchmark; IntentQA is written as NExT-QA is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

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
from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.nextqa import read_nextqa_rows
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from data_modules.video_files import VideoFolder
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

_NUM_LOOKED_AT = 100
"""Rows by which it is decided whether a file hides its answers."""


Rows = Iterator[tuple[str, Row]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a benchmark keeps what an example needs; empty for what it has not."""

    rows: Callable[[Path, str, SkippedRows], Rows]
    """Yields ``(place, row)`` of a split, in the order of the file."""
    prepare: Callable[[Row, str], Row] = lambda row, place: row
    """Makes a row of the file one that has the fields below; may find it malformed."""
    id: str
    folders: tuple[str, ...]
    """Where the videos are: of several, in the first that is there."""
    media: tuple[str, ...]
    """A video's path below the folder, with fields of the row in braces: the first that is there.
    """
    video: str
    question: str = "question"
    options: str = "options"
    option_text: str = ""
    """The text's field, where an option is an object."""
    answer: str = "answer"
    answer_form: AnswerForm
    question_type: str = ""
    """The type, with fields of the row in braces."""
    start: str = ""
    end: str = ""
    named_by: tuple[str, ...]
    """Fields of the row by which messages name it."""


def read_manifest(
    name: str, root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one multiple-choice example a row of the benchmark ``name``.

    Options lose the blanks around them, and their labels (``A.``) where all have one. If the first
    rows have answers, a row without is malformed; if not, one with. A row that shows a folder of
    frames instead of a video is left out (MVBench's episodic reasoning).

    Raises:
        ValueError: A file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    manifest = MANIFESTS[name]
    # Counted when the rows are read for good.
    uncounted = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    first_rows = islice(manifest.rows(Path(root), split, uncounted), _NUM_LOOKED_AT)
    has_answers = any(row.get(manifest.answer) is not None for _, row in first_rows)
    videos = VideoFolder(*(Path(root, folder) for folder in manifest.folders))

    def make(place: str, row: Row) -> Iterator[Example]:
        row = manifest.prepare(row, place)
        question = required_text(row, manifest.question, place)
        if is_nan_like(question):
            raise MalformedRowError(place, f"field {manifest.question!r} is {question!r}")
        options = option_texts(_option_list(row, manifest), manifest.options, place)
        index = right_option(
            row.get(manifest.answer), options, manifest.answer_form, manifest.answer, place
        )
        if has_answers != (index is not None):
            raise MalformedRowError(
                place,
                f"field {manifest.answer!r} is "
                + ("missing or empty" if has_answers else "there")
                + ", in other rows it is not",
            )
        start = seconds_field(row, manifest.start, place) if manifest.start else None
        end = seconds_field(row, manifest.end, place) if manifest.end else None
        check_span(start, end, place)
        row = row | {manifest.video: id_field(row, manifest.video, place)}
        response = "" if index is None else options[index]
        yield Example(
            id=f"{name}:{split}:{id_field(row, manifest.id, place)}",
            corpus=name,
            media=videos.find(*(path.format(**row) for path in manifest.media)),
            video_id=row[manifest.video],
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

    rows = manifest.rows(Path(root), split, skipped)
    yield from examples_of(rows, make, skipped, named_by=manifest.named_by, unique=True)


def read_intentqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield what :func:`data_modules.nextqa.read_nextqa` reads of IntentQA's files.

    They have further columns, and the videos are in ``<root>/Videos/<video_id>.mp4``, unless there
    is NExT-QA's map.
    """

    def renamed(example: Example, _: str) -> tuple[Example]:
        name = example.id.partition(":")[2]
        return (replace(example, id=f"intentqa:{name}", corpus="intentqa"),)

    yield from read_nextqa_rows(root, split, skipped, renamed)


def _option_list(row: Row, manifest: Manifest) -> object:
    options = row.get(manifest.options)
    if not (manifest.option_text and isinstance(options, list)):
        return options
    return [
        option.get(manifest.option_text) if isinstance(option, dict) else option
        for option in options
    ]


def _mvbench_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``json/<task>.json`` of each task, all of one split; a row's id is its task and number."""
    for task, folder in MVBENCH_FOLDERS.items():
        rows = read_json_array(root / "json" / f"{task}.json", skipped)
        for number, (place, row) in enumerate(rows):
            yield place, row | {"id": f"{task}_{number}", "task": task, "folder": folder}


def _without_frames(row: Row, place: str) -> Row:
    if row["task"] in _FOLDERS_OF_FRAMES:
        raise UnusableRowError(place, "a folder of frames is no video")
    return row


def _tempcompass_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``questions/<task>.json``: video -> aspect -> questions, with their options in lines."""
    for task in TEMPCOMPASS_TASKS:
        for place, video, aspects in read_json_members(root / "questions" / f"{task}.json"):
            if not isinstance(aspects, dict) or not all(map(_is_rows, aspects.values())):
                error = MalformedRowError(
                    place,
                    f"video {video!r} must hold lists of objects by aspect, found {aspects!r:.200}",
                )
                skipped.record_malformed(error)
                continue
            for aspect, rows in aspects.items():
                for number, row in enumerate(rows):
                    name = f"{task}_{video}_{aspect}_{number}"
                    shared = {"id": name, "video": video, "task": task, "aspect": aspect}
                    yield place, row | shared


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _with_options(row: Row, place: str) -> Row:
    """A row of TempCompass with its question and options apart from each other."""
    question = required_text(row, "question", place)
    if row["task"] == "yes_no":
        return row | {"question": question, "options": ["yes", "no"]}
    asked, *lines = question.splitlines()
    return row | {"question": asked.strip(), "options": [line for line in lines if line.strip()]}


def _video_mme_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``videomme/<split>-00000-of-00001.parquet``."""
    yield from _parquet_rows(root / "videomme" / f"{split}-00000-of-00001.parquet")


def _with_type(row: Row, place: str) -> Row:
    kinds = (required_text(row, name, place) for name in ("duration", "task_type"))
    return row | {"type": "/".join(kinds)}


def _parquet_rows(path: Path) -> Rows:
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


def _egoschema_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``questions.json``: all for ``test``; for ``subset`` those of ``subset_answers.json``."""
    if split not in ("subset", "test"):
        raise ValueError(f"{root}: EgoSchema's splits are subset and test, found {split!r}")
    path, answer_path = root / "questions.json", root / "subset_answers.json"
    answers = {}
    if split == "subset":
        answers = {name: answer for _, name, answer in read_json_members(answer_path)}
    unasked = dict.fromkeys(answers)
    for place, row in read_json_array(path, skipped):
        name = str(row.get("q_uid")).strip()
        if split == "test" or name in answers:
            unasked.pop(name, None)
            options = [row.get(f"option {number}") for number in range(5)]
            yield place, row | {"options": options, "answer": answers.get(name)}
    for name in unasked:
        error = MalformedRowError(str(answer_path), f"question {name!r} is not in {path.name}")
        skipped.record_malformed(error)


def _star_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``STAR_<split>.json``; the type is what a question's id begins with."""
    for place, row in read_json_array(root / f"STAR_{split}.json", skipped):
        yield place, row | {"type": str(row.get("question_id")).partition("_")[0]}


MANIFESTS: dict[str, Manifest] = {
    "mvbench": Manifest(
        rows=_mvbench_rows,
        prepare=_without_frames,
        id="id",
        folders=(".",),
        media=("video/{folder}/{video}", "{folder}/{video}"),
        video="video",
        options="candidates",
        answer_form="text",
        question_type="{task}",
        start="start",
        end="end",
        named_by=("task", "video"),
    ),
    "tempcompass": Manifest(
        rows=_tempcompass_rows,
        prepare=_with_options,
        id="id",
        folders=("videos",),
        media=("{video}",),
        video="video",
        answer_form="text",
        question_type="{aspect}/{task}",
        named_by=("id",),
    ),
    "video_mme": Manifest(
        rows=_video_mme_rows,
        prepare=_with_type,
        id="question_id",
        folders=("data", "videos"),
        media=("{videoID}",),
        video="videoID",
        answer_form="letter",
        question_type="{type}",
        named_by=("question_id",),
    ),
    "egoschema": Manifest(
        rows=_egoschema_rows,
        id="q_uid",
        folders=("videos",),
        media=("{q_uid}",),
        video="q_uid",
        answer_form="index",
        named_by=("q_uid",),
    ),
    "star": Manifest(
        rows=_star_rows,
        id="question_id",
        folders=("Charades_v1_480", "Charades_v1", "videos"),
        media=("{video_id}",),
        video="video_id",
        options="choices",
        option_text="choice",
        answer_form="text",
        question_type="{type}",
        start="start",
        end="end",
        named_by=("question_id",),
    ),
}
"""Benchmark -> its files and fields."""

read_mvbench = partial(read_manifest, "mvbench")
read_tempcompass = partial(read_manifest, "tempcompass")
read_video_mme = partial(read_manifest, "video_mme")
read_egoschema = partial(read_manifest, "egoschema")
read_star = partial(read_manifest, "star")
