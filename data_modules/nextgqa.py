"""NExT-GQA: NExT-QA's causal and temporal questions, with the times at which answers are seen."""

from collections.abc import Iterator
from dataclasses import replace

from data_modules.files import Files
from data_modules.json_files import read_json_object
from data_modules.nextqa import read_nextqa_rows
from data_modules.rows import Row, parse_seconds
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import grounding_prompt, grounding_response

Spans = tuple[tuple[float, float], ...]


def read_nextgqa(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    name = f"gsub_{split}.json"
    located = read_json_object(files, name) if files.exists(name) else None

    def with_grounding(example: Example, row: Row) -> Iterator[Example]:
        question_id = example.id.rpartition("_")[2]
        group_id = f"{example.video_id}_{question_id}"
        # The question itself, and below, with segments, when its answer is seen.
        yield replace(example, id=f"{example.id}:answer", group_id=group_id)
        if located is None:
            return
        video = located.get(example.video_id)
        location = video.get("location") if isinstance(video, dict) else None
        segments = Row(
            location if isinstance(location, dict) else {},
            f"{row.location}: question {group_id!r} in {name}",
        )
        spans = _spans(segments, question_id, skipped)
        response = grounding_response(*spans[0])
        yield replace(
            example,
            id=f"{example.id}:grounding",
            prompt=grounding_prompt(example.meta["question"]),
            response=response,
            options=(),
            answer_index=None,
            answers=(response,),
            question_type="grounding",
            group_id=group_id,
            spans=spans,
        )

    yield from read_nextqa_rows(files, split, skipped, "nextgqa", with_grounding)


def _spans(segments: Row, question_id: str, skipped: SkippedRows) -> Spans:
    """The segments of one question, put right where that is plain, which is counted.

    Raises:
        MalformedRowError: There is none, or one is not ``[start, end]`` in seconds.
    """
    value = segments.get(question_id)
    listed = value if isinstance(value, list) else []
    if len(listed) == 2 and not any(isinstance(item, list) for item in listed):
        listed = [listed]  # one segment, not in a list of its own
    spans = []
    for span in listed:
        times = [parse_seconds(time) for time in span] if isinstance(span, list) else []
        ends = [time for time in times if time is not None]
        if len(times) != 2 or len(ends) != 2:
            raise segments.malformed(
                f"expected [[start, end], ...] in seconds, found {value!r:.200}"
            )
        if any(float(time) < 0 for time in span):
            remark = "a segment begins before the video: it is taken from its start"
            skipped.remark(segments.location, remark)
        if ends[0] > ends[1]:
            remark = "the ends of a segment are exchanged: they are exchanged back"
            skipped.remark(segments.location, remark)
        if ends[0] == ends[1]:
            skipped.remark(segments.location, "a segment has no length: it is left out")
            continue
        spans.append((min(ends), max(ends)))  # in order, whichever way they stood
    if not spans:
        raise segments.malformed(f"there is no segment, found {value!r:.200}")
    return tuple(spans)
