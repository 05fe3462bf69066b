"""NExT-GQA: NExT-QA's causal and temporal questions, with the times at which answers are seen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.annotation_files import parse_seconds
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.nextqa import read_nextqa_rows
from data_modules.skipped_rows import MalformedRowError, SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import grounding_prompt, grounding_response

Spans = tuple[tuple[float, float], ...]


def read_nextgqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield two examples a row: the multiple-choice question, and the question when it is seen.

    Layout: that of :func:`data_modules.nextqa.read_nextqa`, and ``<root>/gsub_<split>.json``:
    ``{"<video>": {"duration": 35, "location": {"<qid>": [[0.5, 12.6]]}, "fps": 29.97}}``, times in
    seconds. The two share their ``group_id``, because Acc@GQA wants both right. Without that file
    (train has none) only the first is there.

    Known of the released files: 36 segments of test begin 0.1 or 0.2 s before the video, and begin
    with it here; 3 of val end after the video, and are left so; videos without questions are
    in ``gsub``, too. Ends that are exchanged are exchanged back, and segments of no length left out
    beside others. All this is counted as a remark. A row without a segment gives neither example.

    Raises:
        ValueError: A file or column is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    path = Path(root, f"gsub_{split}.json")
    note_file(path)
    located: dict[str, Any] | None = None
    if path.exists():
        located = {video_id: video for _, video_id, video in read_json_members(path)}

    def with_grounding(example: Example, place: str) -> Iterator[Example]:
        question_id = example.id.rpartition("_")[2]
        group_id = f"{example.video_id}_{question_id}"
        name = f"nextgqa:{split}:{group_id}"
        yield replace(example, id=f"{name}:answer", corpus="nextgqa", group_id=group_id)
        if located is None:
            return
        video = located.get(example.video_id)
        where = f"{place}: question {group_id!r} in {path.name}"
        spans = _spans(video, question_id, where, skipped)
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

    yield from read_nextqa_rows(root, split, skipped, with_grounding)


def _spans(video: Any, question_id: str, place: str, skipped: SkippedRows) -> Spans:  # noqa: ANN401
    """The segments of one question, put right where that is plain, which is counted.

    Raises:
        MalformedRowError: There is none, or one is not ``[start, end]`` in seconds.
    """
    location = video.get("location") if isinstance(video, dict) else None
    found = location.get(question_id) if isinstance(location, dict) else None
    listed = found if isinstance(found, list) else []
    if len(listed) == 2 and not any(isinstance(item, list) for item in listed):
        listed = [listed]  # one segment, not in a list of its own
    spans = []
    for span in listed:
        times = [parse_seconds(time) for time in span] if isinstance(span, list) else []
        ends = [time for time in times if time is not None]
        if len(times) != 2 or len(ends) != 2:
            raise MalformedRowError(
                place, f"expected [[start, end], ...] in seconds, found {found!r:.200}"
            )
        if any(float(time) < 0 for time in span):
            skipped.remark(place, "a segment begins before the video: it is taken from its start")
        if ends[0] > ends[1]:
            skipped.remark(place, "the ends of a segment are exchanged: they are exchanged back")
        if ends[0] == ends[1]:
            skipped.remark(place, "a segment has no length: it is left out")
            continue
        spans.append((min(ends), max(ends)))
    if not spans:
        raise MalformedRowError(place, f"there is no segment, found {found!r:.200}")
    return tuple(spans)
