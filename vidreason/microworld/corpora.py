"""Writing the world to disk: videos, and annotations in the file formats of the real corpora.

One folder per corpus, laid out like the real one (WebVid csv, NExT-QA csv with its id map,
ActivityNet-QA json, Causal-Vid-Instruct jsonl, CLEVRER json, NExT-GQA, VCR, Test of Time), each
with the splits train, val and test. A video of several corpora is one file with several names (hard
links).
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidreason.microworld import clevrer, still_images, time_questions
from vidreason.microworld.annotation_files import write_csv, write_json, write_json_lines
from vidreason.microworld.language import (
    NUM_FUTURES,
    caption,
    explanation,
    next_events,
    next_sentence,
    predictions,
)
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.open_ended import open_questions
from vidreason.microworld.questions import (
    NUM_OPTIONS,
    Choice,
    Question,
    arrange,
    ask,
    count_per_video,
)
from vidreason.microworld.renderer import (
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    frame_times,
    write_video,
)
from vidreason.microworld.scenes import draw_rollouts, rollout_of
from vidreason.microworld.simulation import VIDEO_SECONDS, Rollout
from vidreason.microworld.still_images import looks
from vidreason.reasoning.prompts import (
    CAUSAL_EXPLANATION_PROMPT,
    EVENT_REASONING_PROMPT,
)

MARGIN_SECONDS = 0.5
"""NExT-GQA: time before and after an event that belongs to the span that shows it."""
_NEXTQA_COLUMNS = (
    *("frame_count", "width", "height", "question", "answer", "qid", "type"),
    *(f"a{index}" for index in range(NUM_OPTIONS)),
)
_NUM_FUTURES = {"train": NUM_FUTURES, "val": 200, "test": 200}
"""Futures by which the distribution over next events is known; for training a rough one does."""
_VIDEOS_PER_STILL = {"train": 4, "val": 1, "test": 1}
"""Every which video gives a still picture; for training few, as each is perceived by itself."""
_PAGE_SIZE = 100
_SPLIT_DIGITS = {"train": 1, "val": 2, "test": 3}
_LICENCE = "CC0-1.0"


@dataclass(kw_only=True)
class WorldConfig:
    """Size and seed of the world."""

    num_videos: dict[str, int]
    """Videos of each split: ``train``, ``val``, ``test``."""
    questions_per_video: int = 8
    """Largest number of questions of each corpus about one video."""
    seed: int = 0
    """Another seed is another world of the same kind."""

    def __post_init__(self) -> None:
        unknown = set(self.num_videos) - set(_SPLIT_DIGITS)
        if unknown:
            raise ValueError(
                f"num_videos: unknown splits {sorted(unknown)}; known are {sorted(_SPLIT_DIGITS)}"
            )


def write_world(root: Path, config: WorldConfig) -> None:
    """Write videos and annotations of all splits below ``root``.

    The same configuration gives the same bytes. Annotations are written after the videos, so an
    interrupted call leaves no annotation of a missing video.
    """
    for split in config.num_videos:
        rollouts = split_rollouts(split, config)
        for video_id, rollout in rollouts.items():
            write_video(rollout, original_video(root, video_id))
            _link_video(root, split, video_id)
        write_annotations(root, split, rollouts, config)
        write_stills(root, split, rollouts, config)


def split_rollouts(split: str, config: WorldConfig) -> dict[str, Rollout]:
    """Return what happens in each video of a split, by the video's id."""
    return {
        # The first digit tells the split, so that no two splits share an id.
        f"{_SPLIT_DIGITS[split]}{index:010d}": rollout
        for index, rollout in draw_rollouts(split, config.num_videos[split], config.seed)
    }


def rollout_of_video(video_id: str, seed: int = 0) -> Rollout:
    """Return what happens in one video of a world."""
    split = next(name for name, digit in _SPLIT_DIGITS.items() if str(digit) == video_id[0])
    return rollout_of(split, int(video_id[1:]), seed)


def write_annotations(
    root: Path, split: str, rollouts: dict[str, Rollout], config: WorldConfig
) -> None:
    """Write the annotations of all corpora but VCR for the videos of a split."""
    generator = random.Random(f"questions/{split}/{config.seed}")
    _write_webvid(root / "webvid", split, rollouts)
    closed = ask(rollouts, multiple_choice_questions, config.questions_per_video, generator)
    # NExT-GQA asks about the same questions, and so shares these rows.
    rows = _nextqa_rows(arrange(closed, generator))
    columns = ("video", *_NEXTQA_COLUMNS)
    write_csv(root / "nextqa" / f"{split}.csv", columns, [row for row, _ in rows])
    _write_map(root / "nextqa", sorted(rollouts))
    opened = ask(rollouts, open_questions, config.questions_per_video, generator)
    _write_activitynet_qa(root / "activitynet_qa", split, opened)
    _write_causal_vid_instruct(root / "causal_vid_instruct", split, rollouts, generator)
    scenes = {_scene_index(video_id): rollout for video_id, rollout in rollouts.items()}
    clevrer.write_questions(root / "clevrer", split, scenes, generator)
    _write_nextgqa(root / "nextgqa", split, rows)
    _write_map(root / "nextgqa", sorted(rollouts))
    # A generator each, so that no corpus changes another's questions.
    generator = random.Random(f"test_of_time/{split}/{config.seed}")
    timed = ask(rollouts, time_questions.time_questions, config.questions_per_video, generator)
    time_questions.write_questions(root / "test_of_time", split, arrange(timed, generator))


def write_stills(root: Path, split: str, rollouts: dict[str, Rollout], config: WorldConfig) -> None:
    """Write VCR's pictures of some videos of a split, and its annotations."""
    generator = random.Random(f"vcr/{split}/{config.seed}")
    pictured = dict(list(rollouts.items())[:: _VIDEOS_PER_STILL[split]])
    seen = ask(pictured, looks, still_images.QUESTIONS_PER_IMAGE, generator)
    still_images.write_questions(root / "vcr", split, pictured, seen, generator)


def _page(video_id: str) -> str:
    """Return WebVid's page folder of a video, such as ``000001_000100``."""
    first = int(video_id[1:]) // _PAGE_SIZE * _PAGE_SIZE + 1
    return f"{first:06d}_{first + _PAGE_SIZE - 1:06d}"


def _scene_index(video_id: str) -> int:
    """Return CLEVRER's number of a video within its split."""
    return int(video_id[1:])


def original_video(root: Path, video_id: str) -> Path:
    """Return the path of a video, which is WebVid's; its folder is created."""
    path = root / "webvid" / "videos" / _page(video_id) / f"{video_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link_video(root: Path, split: str, video_id: str) -> None:
    """Give :func:`original_video`, which is there, its names in the other corpora."""
    original = original_video(root, video_id)
    links = [
        root / "nextqa" / "NExTVideo" / video_id[:4] / f"{video_id}.mp4",
        root / "activitynet_qa" / "videos" / f"v_{video_id}.mp4",
        root / "causal_vid_instruct" / "videos" / f"{video_id}.mp4",
        root / "clevrer" / clevrer.video_path(split, _scene_index(video_id)),
        root / "nextgqa" / "NExTVideo" / video_id[:4] / f"{video_id}.mp4",
        root / "test_of_time" / "videos" / f"{video_id}.mp4",
    ]
    for link in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        # os.link does not replace what an interrupted call has left.
        link.unlink(missing_ok=True)
        try:
            os.link(original, link)
        except OSError:  # a file system without hard links
            shutil.copyfile(original, link)


def _write_webvid(folder: Path, split: str, rollouts: dict[str, Rollout]) -> None:
    seconds = round(VIDEO_SECONDS)
    rows = [
        {
            "videoid": video_id,
            "name": caption(rollout),
            "page_idx": str(int(video_id[1:]) // _PAGE_SIZE),
            "page_dir": _page(video_id),
            # WebVid's way of writing a duration.
            "duration": f"PT00H00M{seconds:02d}S",
            "contentUrl": "",
        }
        for video_id, rollout in rollouts.items()
    ]
    columns = ["videoid", "name", "page_idx", "page_dir", "duration", "contentUrl"]
    write_csv(folder / "metadata" / f"results_microworld_{split}.csv", columns, rows)


def _nextqa_rows(choices: list[tuple[str, Choice]]) -> list[tuple[dict[str, Any], Question]]:
    rows = []
    for video_id, number, choice in count_per_video(choices):
        row: dict[str, Any] = {
            "video": video_id,
            "frame_count": len(frame_times()),
            "width": FRAME_SIZE,
            "height": FRAME_SIZE,
            "question": choice.question.text,
            "answer": choice.answer_index,
            "qid": number - 1,  # from 0 in each video
            "type": choice.question.type,
        }
        row |= {f"a{index}": option for index, option in enumerate(choice.options)}
        rows.append((row, choice.question))
    return rows


def _write_nextgqa(
    folder: Path, split: str, rows: Sequence[tuple[dict[str, Any], Question]]
) -> None:
    """Write ``<split>.csv`` and ``gsub_<split>.json``: when the answers can be seen.

    As in the real files, there are no descriptive questions, the column ``video`` is called
    ``video_id``, and answers are texts.
    """
    kept: list[dict[str, Any]] = []
    videos: dict[str, dict[str, Any]] = {}
    for row, question in rows:
        if question.type.startswith("D"):
            continue
        kept.append({**row, "video_id": row["video"], "answer": question.answer})
        video = videos.setdefault(
            row["video"], {"duration": VIDEO_SECONDS, "location": {}, "fps": FRAMES_PER_SECOND}
        )
        video["location"][str(row["qid"])] = [list(shown_span(question))]
    write_csv(folder / f"{split}.csv", ("video_id", *_NEXTQA_COLUMNS), kept)
    write_json(folder / f"gsub_{split}.json", videos)


def shown_span(question: Question) -> tuple[float, float]:
    """Return the start and end in seconds of what shows the answer, to a tenth of a second."""
    assert question.seen_at is not None, "causal and temporal questions have a time"
    start = max(question.seen_at[0] - MARGIN_SECONDS, 0.0)
    end = min(question.seen_at[1] + MARGIN_SECONDS, VIDEO_SECONDS)
    return round(start, 1), round(end, 1)


def _write_map(folder: Path, video_ids: list[str]) -> None:
    path = folder / "map_vid_vidorID.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    # One map for all splits, to which each adds its videos.
    known |= {video_id: f"{video_id[:4]}/{video_id}" for video_id in video_ids}
    write_json(path, known)


def _write_activitynet_qa(folder: Path, split: str, rows: list[tuple[str, Question]]) -> None:
    questions, answers = [], []
    for video_id, number, question in count_per_video(rows):
        # Ids of questions have the v_ of the videos' file names; video_name has none.
        question_id = f"v_{video_id}_{number}"
        questions.append(
            {"video_name": video_id, "question": question.text, "question_id": question_id}
        )
        answers.append(
            {"answer": question.answer, "type": int(question.type), "question_id": question_id}
        )
    write_json(folder / f"{split}_q.json", questions)
    write_json(folder / f"{split}_a.json", answers)


def _write_causal_vid_instruct(
    folder: Path, split: str, rollouts: dict[str, Rollout], generator: random.Random
) -> None:
    records = []
    for number, (video_id, rollout) in enumerate(rollouts.items()):
        futures = next_events(rollout, _NUM_FUTURES[split], generator)
        outcome = rollout.next_event()
        records.append(
            {
                "id": f"microworld_{video_id}",
                "source": "microworld",
                "video_id": video_id,
                "start": None,  # the whole video: its tokens are those of the other corpora
                "end": None,
                # Both prompts that ask for an explanation, in turn.
                "instruction": (EVENT_REASONING_PROMPT, CAUSAL_EXPLANATION_PROMPT)[number % 2],
                "causal_explanation": explanation(rollout),
                "prediction": next_sentence(rollout, outcome),
                "predictions": [
                    {"text": event, "justification": why, "confidence": confidence}
                    for event, why, confidence in predictions(rollout, futures)
                ],
                "outcome": {
                    "text": next_sentence(rollout, outcome),
                    "kind": "nothing" if outcome is None else outcome.kind,
                    "seconds": outcome and round(outcome.time - VIDEO_SECONDS, 2),
                },
                "futures": [
                    {
                        "text": event.text,
                        "probability": event.probability,
                        "seconds": event.seconds and round(event.seconds, 2),
                    }
                    for event in futures
                ],
                "teacher": "microworld simulator",
                "teacher_prompt_sha": "",
                "created": "",
                "license_tag": _LICENCE,
            }
        )
    write_json_lines(folder / f"{split}.jsonl", records)
