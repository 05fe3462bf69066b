"""Multiple-choice benchmarks that are a list of questions: one table of their files and fields.

Nothing is fetched: the annotation file and the videos lie where the benchmark's own instructions
put them. Names of files and fields are those of github OpenGVLab/Ask-Anything
(video_chat2/mvbench.ipynb), llyx97/TempCompass, BradyFU/Video-MME (the Hub's parquet file),
egoschema/EgoSchema and csbobby/STAR_Benchmark; IntentQA is written as NExT-QA is.
"""

from collections.abc import Iterator
from functools import partial

from data_modules.files import Files
from data_modules.json_files import read_json_array, read_json_members, read_json_object
from data_modules.question_manifest import Manifest, read_manifest
from data_modules.rows import MalformedRowError, Row
from data_modules.skipped_rows import SkippedRows, expanded
from data_modules.table_files import read_parquet_rows, read_table
from data_modules.video_files import VideoFolder

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


def _mvbench_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """``json/<task>.json`` of each task, all of one split; a row's id is its task and number.

    Its tasks have 2 to 5 options.
    """
    for task in MVBENCH_FOLDERS:
        for number, row in enumerate(read_json_array(files, f"json/{task}.json", skipped)):
            yield row.adding({"id": f"{task}_{number}", "task": task})


def _mvbench_media(videos: VideoFolder, row: Row, video: str) -> tuple[str, bool]:
    """The video of a question, whole or cut.

    As the paper's instructions put them (``video/star/Charades_v1_480/<name>``, shown from
    ``start`` to ``end``), or as the Hub has them since: without ``video``, in other containers, and
    cut to the spans (``star/Charades_segment/<name>_<start>_<end>.mp4``), which are then shown
    whole. Episodic reasoning has folders of frames, unless it has those videos.
    """
    task = row["task"]
    folder = MVBENCH_FOLDERS[task]
    folders = (folder, _MVBENCH_CONVERTED_FOLDERS.get(task, folder))
    whole = [f"{top}{one}/{video}" for top in ("video/", "", "data0613/") for one in folders]
    cut_folder = _MVBENCH_CUT_FOLDERS.get(task, folder)
    # Names of cut videos hold the span as the file writes it.
    span = f"{row.get('start', '')}_{row.get('end', '')}"
    names = (f"{str(row['video']).removesuffix('.mp4')}_{span}.mp4", video)
    cut = [f"{top}{cut_folder}/{name}" for top in ("video/", "") for name in names]
    path = videos.first_there(*whole)
    cut_path = None if path else videos.first_there(*cut)
    if cut_path is None and path is None and task in _FOLDERS_OF_FRAMES:
        raise row.unusable("a folder of frames is no video")
    # With neither, the path of the paper's instructions is named, and found missing later.
    return cut_path or path or videos.find(whole[0]), cut_path is not None


def _tempcompass_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """``questions/<task>.json``: video -> aspect -> questions, with their options in lines.

    Of 1,580 multiple-choice questions one has an option line that begins with a blank, three end
    with one, two have no blank after an option's letter, and six have two options.
    """
    for task in TEMPCOMPASS_TASKS:
        members = read_json_members(files, f"questions/{task}.json")
        for row in expanded(members, _tempcompass_questions, skipped):
            # The questions have no ids: what leads to one is its id.
            name = f"{task}_{row['video']}_{row['aspect']}_{row['number']}"
            yield row.adding({"id": name, "task": task, **_with_options(row, task)})


def _tempcompass_questions(member: Row) -> Iterator[Row]:
    aspects = member.nested("value")
    for aspect in aspects:
        for number, row in enumerate(aspects.objects(aspect)):
            yield row.adding({"video": member["name"], "aspect": aspect, "number": number})


def _with_options(row: Row, task: str) -> dict[str, object]:
    """A question of TempCompass and its options, which stand in the lines after it."""
    if task == "yes_no":
        return {"options": ["yes", "no"]}
    # What is no text is left as it is: the row is malformed when its fields are read.
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        return {}
    first, *lines = question.strip().splitlines()
    return {"question": first, "options": [line for line in lines if line.strip()]}


def _video_mme_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """``videomme/<split>-00000-of-00001.parquet``, or the same rows as JSON.

    In the form of the official evaluation a row is a video with its ``questions``. Some of the
    videos are ``.MP4`` or ``.mkv``.
    """
    forms = (f"{split}-00000-of-00001.parquet", f"{split}.parquet", f"{split}.json")
    names = [f"{folder}{form}" for folder in ("videomme/", "") for form in forms]

    def questions(row: Row) -> list[Row]:
        if row.get("questions") is None:
            return [row]
        # Beside each question the fields of its video, such as the duration.
        return list(map(row.adding, row.objects("questions")))

    table = read_table(files, [*names, f"{split}.jsonl"], skipped)
    return expanded(table, questions, skipped)


def _egoschema_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """``questions.json``: all for ``test``; for ``subset`` those of ``subset_answers.json``.

    Or the Hub's copy: ``MC/test-00000-of-00001.parquet`` and ``Subset/...``, where options have
    their letters, and answers are texts. Some of the videos are ``.MP4``.
    """
    if split not in ("subset", "test"):
        raise ValueError(f"{files.root}: EgoSchema's splits are subset and test, found {split!r}")
    name, answer_name = "questions.json", "subset_answers.json"
    copy = f"{'Subset' if split == 'subset' else 'MC'}/test-00000-of-00001.parquet"
    if not files.exists(name) and files.exists(copy):
        for row in read_parquet_rows(files, copy):
            yield row.adding({"q_uid": row.get("video_idx"), "options": row.get("option")})
        return
    answers = read_json_object(files, answer_name) if split == "subset" else {}
    # A dictionary for its order: what is left over is reported in that of the file.
    unasked = dict.fromkeys(answers)
    for row in read_json_array(files, name, skipped):
        uid = str(row.get("q_uid")).strip()
        if split == "test" or uid in answers:
            unasked.pop(uid, None)
            options = [row.get(f"option {number}") for number in range(5)]
            yield row.adding({"options": options, "answer": answers.get(uid)})
    for uid in unasked:
        problem = f"question {uid!r} is not in {name}"
        skipped.record_malformed(MalformedRowError(str(files.path(answer_name)), problem))


def _star_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """``STAR_<split>.json``; the type is what a question's id begins with.

    ``test`` hides its answers. A situation of no length is left out.
    """
    for row in read_json_array(files, f"STAR_{split}.json", skipped):
        choices = row.get("choices")
        if isinstance(choices, list):
            choices = [one.get("choice") if isinstance(one, dict) else one for one in choices]
        kind = str(row.get("question_id")).strip().partition("_")[0]
        yield row.adding({"choices": choices, "type": kind})


MANIFESTS: dict[str, Manifest] = {
    "mvbench": Manifest(
        rows=_mvbench_rows,
        id="id",
        video="video",
        folders=(".",),
        media=_mvbench_media,
        options="candidates",
        answer_form="text",
        question_type=("task",),
        has_span=True,
        named_by=("task", "video"),
    ),
    "tempcompass": Manifest(
        rows=_tempcompass_rows,
        id="id",
        video="video",
        folders=("videos",),
        answer_form="text",
        question_type=("aspect", "task"),
    ),
    "video_mme": Manifest(
        rows=_video_mme_rows,
        id="question_id",
        video="videoID",
        folders=("data", "videos"),
        answer_form="letter",
        question_type=("duration", "task_type"),
    ),
    "egoschema": Manifest(
        rows=_egoschema_rows,
        id="q_uid",
        video="q_uid",
        folders=("videos",),
        answer_form="index",
    ),
    "star": Manifest(
        rows=_star_rows,
        id="question_id",
        video="video_id",
        folders=("Charades_v1_480", "Charades_v1", "videos"),
        options="choices",
        answer_form="text",
        question_type=("type",),
        has_span=True,
    ),
}
"""Benchmark -> its files and fields."""

read_mvbench = partial(read_manifest, MANIFESTS["mvbench"], "mvbench")
read_tempcompass = partial(read_manifest, MANIFESTS["tempcompass"], "tempcompass")
read_video_mme = partial(read_manifest, MANIFESTS["video_mme"], "video_mme")
read_egoschema = partial(read_manifest, MANIFESTS["egoschema"], "egoschema")
read_star = partial(read_manifest, MANIFESTS["star"], "star")
