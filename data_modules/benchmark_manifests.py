"""Multiple-choice benchmarks that are a list of questions: one table of their files and fields.

Nothing is fetched: the annotation file and the videos lie where the benchmark's own instructions
put them. Names of files and fields are those of github OpenGVLab/Ask-Anything
(video_chat2/mvbench.ipynb), llyx97/TempCompass, BradyFU/Video-MME (the Hub's parquet file),
egoschema/EgoSchema and csbobby/STAR_Benchmark; IntentQA is written as NExT-QA is.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_modules.annotation_files import required_text
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_array, read_json_members
from data_modules.nextqa import read_nextqa_rows
from data_modules.question_manifest import Manifest, Row, read_manifest
from data_modules.skipped_rows import MalformedRowError, SkippedRows, UnusableRowError
from data_modules.table_files import Rows, read_parquet_rows, read_table
from vidreason.example import Example

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

_MVBENCH_CUT_FOLDERS = {
    "action_sequence": "star/Charades_segment",
    "action_prediction": "star/Charades_segment",
    "object_interaction": "star/Charades_segment",
    "action_localization": "sta/sta_video_segment",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
}
"""Task -> where the release on the Hub has its videos cut to the spans, one for each."""

_MVBENCH_CONVERTED_FOLDERS = {
    "action_antonym": "ssv2_video_mp4",
    "fine_grained_pose": "nturgbd_convert",
}
"""Task -> where the release on the Hub has its whole videos in another container."""

_FOLDERS_OF_FRAMES = {"episodic_reasoning"}
TEMPCOMPASS_TASKS = ("multi-choice", "yes_no", "caption_matching")
"""``captioning``, which only a judge can score, is not read."""


def read_intentqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield what :func:`data_modules.nextqa.read_nextqa` reads of IntentQA's files.

    They have further columns, and the videos are in ``<root>/Videos/<video_id>.mp4``, unless there
    is NExT-QA's map.
    """

    def renamed(example: Example, _: str) -> tuple[Example]:
        name = example.id.partition(":")[2]
        return (replace(example, id=f"intentqa:{name}", corpus="intentqa"),)

    yield from read_nextqa_rows(root, split, skipped, renamed)


def _mvbench_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``json/<task>.json`` of each task, all of one split; a row's id is its task and number.

    Videos are as the paper's instructions put them (``video/star/Charades_v1_480/<name>``, shown
    from ``start`` to ``end``), or as the Hub has them since: without ``video``, in other
    containers, and cut to the spans (``star/Charades_segment/<name>_<start>_<end>.mp4``), which are
    then shown whole. Episodic reasoning has folders of frames, unless it has those videos. Its
    tasks have 2 to 5 options.
    """
    for task, folder in MVBENCH_FOLDERS.items():
        rows = read_json_array(root / "json" / f"{task}.json", skipped)
        for number, (place, row) in enumerate(rows):
            shared = {"id": f"{task}_{number}", "task": task, "folder": folder}
            stem = str(row.get("video")).removesuffix(".mp4")
            converted = _MVBENCH_CONVERTED_FOLDERS.get(task, folder)
            cut = _MVBENCH_CUT_FOLDERS.get(task, folder)
            yield place, row | shared | {"converted": converted, "cut": cut, "stem": stem}


def _leave_out_frames(row: Row, place: str) -> None:
    if row["task"] in _FOLDERS_OF_FRAMES:
        raise UnusableRowError(place, "a folder of frames is no video")


def _tempcompass_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``questions/<task>.json``: video -> aspect -> questions, with their options in lines.

    Of 1,580 multiple-choice questions one has an option line that begins with a blank, three end
    with one, two have no blank after an option's letter, and six have two options.
    """
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
    """``videomme/<split>-00000-of-00001.parquet``, or the same rows as JSON.

    In the form of the official evaluation a row is a video with its ``questions``. Some of the
    videos are ``.MP4`` or ``.mkv``.
    """
    names = (f"{split}-00000-of-00001.parquet", f"{split}.parquet", f"{split}.json")
    paths = [root / folder / name for folder in ("videomme", ".") for name in names]
    for place, row in read_table([*paths, root / f"{split}.jsonl"], skipped):
        questions = row.get("questions")
        if questions is None:
            yield place, row
        elif _is_rows(questions):
            yield from ((place, row | question) for question in questions)
        else:
            error = MalformedRowError(
                place, f"field 'questions' must be a list of objects, found {questions!r:.200}"
            )
            skipped.record_malformed(error)


def _with_type(row: Row, place: str) -> Row:
    kinds = (required_text(row, name, place) for name in ("duration", "task_type"))
    return row | {"type": "/".join(kinds)}


def _egoschema_rows(root: Path, split: str, skipped: SkippedRows) -> Rows:
    """``questions.json``: all for ``test``; for ``subset`` those of ``subset_answers.json``.

    Or the Hub's copy: ``MC/test-00000-of-00001.parquet`` and ``Subset/...``, where options have
    their letters, and answers are texts. Some of the videos are ``.MP4``.
    """
    if split not in ("subset", "test"):
        raise ValueError(f"{root}: EgoSchema's splits are subset and test, found {split!r}")
    path, answer_path = root / "questions.json", root / "subset_answers.json"
    copy = root / ("Subset" if split == "subset" else "MC") / "test-00000-of-00001.parquet"
    note_file(path)
    note_file(copy)
    if copy.is_file() and not path.is_file():
        for place, row in read_parquet_rows(copy):
            yield place, row | {"q_uid": row.get("video_idx"), "options": row.get("option")}
        return
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
    """``STAR_<split>.json``; the type is what a question's id begins with.

    ``test`` hides its answers. A situation of no length is left out.
    """
    for place, row in read_json_array(root / f"STAR_{split}.json", skipped):
        yield place, row | {"type": str(row.get("question_id")).strip().partition("_")[0]}


MANIFESTS: dict[str, Manifest] = {
    "mvbench": Manifest(
        rows=_mvbench_rows,
        check_absent=_leave_out_frames,
        id="id",
        folders=(".",),
        media=tuple(
            f"{root}{folder}/{{video}}"
            for root in ("video/", "", "data0613/")
            for folder in ("{folder}", "{converted}")
        ),
        cut_media=tuple(
            f"{root}{{cut}}/{name}"
            for root in ("video/", "")
            for name in ("{stem}_{start}_{end}.mp4", "{video}")
        ),
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

read_mvbench = partial(read_manifest, MANIFESTS["mvbench"], "mvbench")
read_tempcompass = partial(read_manifest, MANIFESTS["tempcompass"], "tempcompass")
read_video_mme = partial(read_manifest, MANIFESTS["video_mme"], "video_mme")
read_egoschema = partial(read_manifest, MANIFESTS["egoschema"], "egoschema")
read_star = partial(read_manifest, MANIFESTS["star"], "star")
