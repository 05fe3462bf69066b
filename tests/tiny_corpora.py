"""A small sound instance of each corpus' own file format, with invented content, to be damaged."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_modules.benchmark_manifests import MVBENCH_FOLDERS
from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TinyCorpus:
    """Files of one corpus; ``file`` holds ``rows`` in ``form``, and is the one that is damaged."""

    reader: str
    split: str = "train"
    file: str
    form: str
    """``csv``, ``lines`` (of JSON), ``array`` or ``members`` (of one JSON object)."""
    rows: list[Row]
    others: dict[str, Any] = field(default_factory=dict)
    """Further files: texts, or values to be written as JSON."""

    def write(self, root: Path, rows: list[Row] | None = None) -> Path:
        """Write all files below ``root``; return the path of ``file``."""
        for name, value in self.others.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        path = root / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FORMS[self.form](self.rows if rows is None else rows).encode())
        return path


def examples_in(
    reader: str, root: Path | str, split: str, skipped: SkippedRows | None = None, **options: Any
) -> list[Example]:
    """Read a corpus to its end; without ``skipped`` the first malformed row is raised."""
    counts = SkippedRows() if skipped is None else skipped
    return list(READERS[reader].read(Files(root), split, counts, **options))


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _array(rows: list[Row]) -> str:
    return json.dumps(rows, indent=1, ensure_ascii=False)


def _members(rows: list[Row]) -> str:
    (members,) = rows
    return json.dumps(members, indent=1, ensure_ascii=False)


FORMS: dict[str, Callable[[list[Row]], str]] = {
    "csv": _csv,
    "lines": _lines,
    "array": _array,
    "members": _members,
}

_MAP = {"0101": "0001/0101", "0202": "0017/0202"}
_QUESTION = {"frame_count": "9", "width": "6", "height": "4"}
_OPTIONS = {f"a{k}": f"option {k}" for k in range(4)} | {"a4": "last, with a comma"}

TINY_CORPORA = [
    TinyCorpus(
        reader="webvid",
        file="train.csv",
        form="csv",
        rows=[
            {"videoid": "0021", "page_dir": "01_50", "name": 'A dog "runs",\nthen stops.'},
            {"videoid": "77", "page_dir": "", "name": "Waves at dusk"},
            {"videoid": "90", "page_dir": "01_50", "name": "Z\u00fcrich, seen from above"},
        ],
    ),
    TinyCorpus(
        reader="hd_vila",
        file="train/part0.jsonl",
        form="lines",
        rows=[
            {
                "video_id": name,
                "url": "u",
                "clip": [
                    {"clip_id": f"{name}.0.mp4", "span": ["00:00:01.500", "00:00:04.000"]},
                    {"clip_id": f"{name}.1.mp4", "span": ["00:00:04.000", "00:00:09.250"]},
                ],
            }
            for name in ("-QM", "abc")
        ],
        others={
            "train/part0.asr.jsonl": "".join(
                json.dumps({"clip_id": f"{name}.{k}.mp4", "text": f"said in {name} {k}"}) + "\n"
                for name in ("-QM", "abc")
                for k in (0, 1)
            )
        },
    ),
    TinyCorpus(
        reader="nextqa",
        split="val",
        file="val.csv",
        form="csv",
        rows=[
            {"video": video, **_QUESTION, "question": f"why {k}", "answer": str(k), "qid": str(k)}
            | {"type": "CW", **_OPTIONS}
            for video in _MAP
            for k in (1, 2)
        ],
        others={"map_vid_vidorID.json": _MAP},
    ),
    TinyCorpus(
        reader="nextqa_open_ended",
        split="val",
        file="val.csv",
        form="csv",
        rows=[
            {"video": video, **_QUESTION, "question": "why", "answer": "none", "qid": str(k)}
            | {"type": "CW"}
            for video in _MAP
            for k in (1, 2)
        ],
        others={"map_vid_vidorID.json": _MAP},
    ),
    TinyCorpus(
        reader="activitynet_qa",
        split="val",
        file="val_q.json",
        form="array",
        rows=[
            {"video_name": "a-1", "question": "is it indoor", "question_id": "v_a-1_2"},
            {"video_name": "b_2", "question": "how many dogs", "question_id": "v_b_2_1"},
        ],
        others={
            "val_a.json": [
                {"answer": "None", "type": 7, "question_id": "v_b_2_1"},
                {"answer": "yes", "type": 3, "question_id": "v_a-1_2"},
            ]
        },
    ),
    TinyCorpus(
        reader="causal_vid_instruct",
        file="train.jsonl",
        form="lines",
        rows=[
            {
                "id": f"r{k}",
                "video_id": "00123",
                "media": "ssv2/00123.webm",
                "start": 1.5,
                "end": 4,
                "instruction": "Explain.",
                "causal_explanation": ["The ball rolls.", "It hits the wall."],
                "predictions": [{"text": "The ball stops", "confidence": 0.7}],
                "outcome": {"text": "The ball stops", "kind": "block", "seconds": 0.5},
                "futures": [
                    {"text": "The ball stops", "probability": 0.75, "seconds": 0.5},
                    {"text": "Nothing moves", "probability": 0.25, "seconds": None},
                ],
            }
            for k in range(2)
        ],
    ),
    TinyCorpus(
        reader="ego4d",
        file="annotations/narration.json",
        form="members",
        rows=[
            {
                uid: {
                    "narration_pass_1": {
                        "narrations": [
                            {"timestamp_sec": 2.0, "narration_text": "#C C picks up the cup"},
                            {"timestamp_sec": 9.5, "narration_text": "#O A man X walks"},
                        ]
                    },
                    "narration_pass_2": {"narrations": []},
                }
                for uid in ("aa-1", "bb-2")
            }
        ],
        others={
            "ego4d.json": {
                "version": "2",
                "videos": [
                    {"video_uid": "aa-1", "duration_sec": 12.0, "split_em": "train"},
                    {"video_uid": "bb-2", "duration_sec": 11.0, "split_av": None},
                ],
            }
        },
    ),
    TinyCorpus(
        reader="activitynet_captions",
        file="train.json",
        form="members",
        rows=[
            {
                name: {
                    "duration": 82.7,
                    "timestamps": [[0.8, 19.9], [17.4, 60.8], [56.3, 90]],
                    "sentences": ["A man runs. ", " He jumps.", "A dog barks."],
                }
                for name in ("v_a", "v_b")
            }
        ],
    ),
    TinyCorpus(
        reader="something_something",
        file="train.json",
        form="array",
        rows=[
            {
                "id": str(k),
                "label": "holding a potato",
                "template": "Holding [something]",
                "placeholders": ["a potato"],
            }
            for k in (78687, 4)
        ],
        others={"labels.json": {"Holding something": "41", "Folding something": "35"}},
    ),
    TinyCorpus(
        reader="llava",
        file="train.json",
        form="array",
        rows=[
            {
                "id": "x",
                "video": f"videos/{k}.mp4",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat is it?"},
                    {"from": "gpt", "value": "A \u201cball\u201d."},
                    {"from": "human", "value": "Which colour?"},
                    {"from": "gpt", "value": "Red."},
                ],
            }
            for k in range(2)
        ],
    ),
    TinyCorpus(
        reader="chat_messages",
        file="train.jsonl",
        form="lines",
        rows=[
            {
                "messages": [
                    {"role": "user", "content": "<video>What happens?"},
                    {"role": "assistant", "content": f"It falls {k} times."},
                ],
                "videos": ["a.mp4"],
            }
            for k in range(2)
        ],
    ),
    TinyCorpus(
        reader="nextgqa",
        split="val",
        file="val.csv",
        form="csv",
        rows=[
            {"video_id": video, **_QUESTION, "question": f"why {k}", "answer": f"option {k}"}
            | {"qid": str(k), "type": "CW", **_OPTIONS}
            for video in _MAP
            for k in (1, 2)
        ],
        others={
            "map_vid_vidorID.json": _MAP,
            "gsub_val.json": {
                video: {"duration": 9, "fps": 30, "location": {"1": [[0.5, 3]], "2": [[1, 2]]}}
                for video in _MAP
            },
        },
    ),
    TinyCorpus(
        reader="clevrer",
        split="val",
        file="questions/validation.json",
        form="array",
        rows=[
            {
                "scene_index": number,
                "video_filename": f"video_{number}.mp4",
                "questions": [
                    {
                        "question_id": 0,
                        "question": "How many metal objects are moving?",
                        "question_type": "descriptive",
                        "program": ["objects"],
                        "answer": "2",
                    },
                    {
                        "question_id": 11,
                        "question": "What is responsible for the collision?",
                        "question_type": "explanatory",
                        "choices": [
                            {"choice_id": 0, "choice": "the gray sphere", "answer": "correct"},
                            {"choice_id": 1, "choice": "the cube entering", "answer": "wrong"},
                        ],
                    },
                ],
            }
            for number in (10000, 10001)
        ],
    ),
    TinyCorpus(
        reader="vcr",
        split="val",
        file="val.jsonl",
        form="lines",
        rows=[
            {
                "movie": "3015_CHARLIE_ST_CLOUD",
                "objects": ["person", "person", "car"],
                "img_fn": "lsmdc_3015/a@0.jpg",
                "metadata_fn": "lsmdc_3015/a@0.json",
                "question": ["Does", [1], "feel", "comfortable", "?"],
                "answer_choices": [["Yes", "."], ["No", ",", [0, 1], "do"], ["Maybe"], ["Never"]],
                "answer_label": 1,
                "rationale_choices": [["A"], ["B"], ["C"], [[2], "is", "here", "."]],
                "rationale_label": 3,
                "img_id": "val-0",
                "annot_id": f"val-{number}",
            }
            for number in range(2)
        ],
        others={
            "vcr1images/lsmdc_3015/a@0.json": {
                "boxes": [[1, 2, 30, 40, 0.9], [5, 6, 7, 8.5, 0.8], [0, 0, 9, 9, 0.7]],
                "width": 50,
                "height": 40,
            }
        },
    ),
    TinyCorpus(
        reader="test_of_time",
        split="test",
        file="test.jsonl",
        form="lines",
        rows=[
            {
                "id": f"t{number}",
                "video": "clip7",
                "category": "order",
                "question": f"What happened first, take {number}?",
                "options": ["the ball fell", "the cup broke"],
                "answer_index": number,
                "start": 0.5,
                "end": 4,
                "source": "invented",
                "minimal_pair_id": "p0",
            }
            for number in range(2)
        ],
    ),
    TinyCorpus(
        reader="mvbench",
        split="test",
        file="json/action_sequence.json",
        form="array",
        rows=[
            {
                "video": "ZS9XR.mp4",
                "question": "What happened after the person took the food?",
                "candidates": ["Ate the medicine.", "Tidied up the blanket."],
                "answer": "Ate the medicine.",
                "start": 11.1,
                "end": 16,
            }
            for _ in range(2)
        ],
        others={
            f"json/{task}.json": [
                {"video": "v.mp4", "question": "Which?", "candidates": ["a", "b"], "answer": "b"}
            ]
            for task in MVBENCH_FOLDERS
            if task not in ("action_sequence", "episodic_reasoning")
        }
        | {"json/episodic_reasoning.json": []},
    ),
    TinyCorpus(
        reader="tempcompass",
        split="test",
        file="questions/multi-choice.json",
        form="members",
        rows=[
            {
                video: {
                    "action": [
                        {
                            "question": "What is the man doing?\nA. dunking\nB. passing a ball",
                            "answer": "A. dunking",
                        }
                    ]
                }
                for video in ("1034419625", "1034419625_reverse")
            }
        ],
        others={
            "questions/yes_no.json": {
                "1034419625": {"speed": [{"question": "Is it slow?", "answer": "yes"}]}
            },
            "questions/caption_matching.json": {
                "1034419625": {
                    "order": [
                        {
                            "question": "Which caption fits?\nCaption A: One.\nCaption B: Two.",
                            "answer": "Caption B: Two.",
                        }
                    ]
                }
            },
        },
    ),
    TinyCorpus(
        reader="video_mme",
        split="test",
        file="test.json",
        form="array",
        rows=[
            {
                "videoID": "fFjv93ACGo8",
                "question_id": f"001-{number}",
                "duration": "short",
                "task_type": "Counting Problem",
                "question": "How many?",
                "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. None."],
                "answer": "C",
            }
            for number in range(2)
        ],
    ),
    TinyCorpus(
        reader="egoschema",
        split="subset",
        file="questions.json",
        form="array",
        rows=[
            {"q_uid": uid, "google_drive_id": "g", "question": "What does C do?"}
            | {f"option {k}": f"thing {k}" for k in range(5)}
            for uid in ("0074f737", "unanswered", "00aa7247")
        ],
        others={"subset_answers.json": {"0074f737": 3, "00aa7247": 0}},
    ),
    TinyCorpus(
        reader="star",
        split="val",
        file="STAR_val.json",
        form="array",
        rows=[
            {
                "question_id": f"Interaction_T2_{number}",
                "question": "Which object was opened?",
                "answer": "The door.",
                "video_id": "0TXYV",
                "start": 14.4,
                "end": 17,
                "choices": [
                    {"choice_id": k, "choice": text}
                    for k, text in enumerate(["The door.", "The bag.", "The box.", "The book."])
                ],
            }
            for number in range(2)
        ],
    ),
    TinyCorpus(
        reader="intentqa",
        split="val",
        file="val.csv",
        form="csv",
        rows=[
            {"video_id": video, **_QUESTION, "question": f"why {k}", "answer": str(k)}
            | {"qid": str(k), "type": "CW", **_OPTIONS, "action": "run", "lemma": "run"}
            for video in _MAP
            for k in (1, 2)
        ],
        others={"map_vid_vidorID.json": _MAP},
    ),
]
