"""NExT-GQA: NExT-QA's causal and temporal questions, with the times at which answers are seen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.nextqa import read_nextqa
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import grounding_prompt, grounding_response

Spans = tuple[tuple[float, float], ...]


def read_nextgqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield two examples a row: the multiple-choice question, and the question when it is seen.

    Layout: that of :func:`data_modules.nextqa.read_nextqa`, and ``<root>/gsub_<split>.json``:
    ``{"<video>": {"duration": 35, "location": {"<qid>": [[0.5, 12.6]]}, "fps": 29.97}}``, times in
    seconds. The two share their ``group_id``, because Acc@GQA wants both right; a span may end
    after the video, as three of val do, and is left so. Without that file (train has none) only the
    first is there. Nothing is ever left out.

    Raises:
        ValueError: A file or column is missing or malformed, or a question has no span.
    """
    path = Path(root, f"gsub_{split}.json")
    note_file(path)
    located = _read_spans(path) if path.exists() else None
    for example in read_nextqa(root, split, skipped):
        question_id = example.id.rpartition("_")[2]
        group_id = f"{example.video_id}_{question_id}"
        name = f"nextgqa:{split}:{group_id}"
        yield replace(example, id=f"{name}:answer", corpus="nextgqa", group_id=group_id)
        if located is None:
            continue
        spans = located.get((example.video_id, question_id))
        if not spans:
            raise ValueError(f"{path}: there is no span for question {group_id!r} of {split}.csv")
        response = grounding_response(*spans[0])
        yield replace(
            example,
            id=f"{name}:grounding",
            corpus="nextgqa",
            prompt=grounding_prompt(example.meta["question"]),
            response=response,
            options=(),
            answer_index=None,
            answers=(response,),
            question_type="grounding",
            group_id=group_id,
            spans=spans,
        )


def _read_spans(path: Path) -> dict[tuple[str, str], Spans]:
    spans: dict[tuple[str, str], Spans] = {}
    for place, video_id, video in read_json_members(path):
        location = video.get("location") if isinstance(video, dict) else None
        if not isinstance(location, dict):
            raise ValueError(f"{place}: video {video_id!r} has no object 'location'")
        for question_id, found in location.items():
            spans[video_id, question_id] = _checked(found, f"{place}: question {question_id!r}")
    return spans


def _checked(found: Any, place: str) -> Spans:  # noqa: ANN401 - any JSON value
    """The spans of one question, if they are a list of ``[start, end]`` in seconds."""
    if not isinstance(found, list) or not all(
        isinstance(span, list)
        and len(span) == 2
        and all(type(time) in (int, float) and 0 <= time < 1e9 for time in span)
        for span in found
    ):
        raise ValueError(f"{place}: expected [[start, end], ...] in seconds, found {found!r:.200}")
    return tuple((float(min(span)), float(max(span))) for span in found)
