"""ActivityNet Captions: sentences about spans of everyday videos of two minutes.

The spans of a video overlap, are in no fixed order, and may begin before it or end after it by a
little; some are reversed or empty. Sentences have blanks around them, and some are empty.
"""

from collections.abc import Iterator

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.json_files import read_json_members
from data_modules.rows import Row, is_nan_like, parse_seconds
from data_modules.skipped_rows import SkippedRows, examples_of, expanded
from data_modules.video_files import VideoFolder
from vidreason.example import Example

FILE_NAMES = ("{}.json", "{}_1.json")
"""``train.json``, ``val_1.json``; the second file of val describes the same videos again."""


def read_activitynet_captions(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one captioning example a sentence, with its span.

    Layout: ``<root>/train.json``, ``<root>/val_1.json`` (or ``val_2.json``, as split ``val_2``),
    one object of videos: ``{"v_abc": {"duration": 82.7, "timestamps": [[0.8, 19.9], ...],
    "sentences": ["...", ...]}}``; videos in ``<root>/videos/<video>.<any extension>``, with or
    without ``v_`` before their id. Left out and counted are empty sentences, and spans that are
    empty, reversed or begin after the video's end; an end after the video's is that. Malformed is a
    video without a duration, or with another number of spans than of sentences.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    videos = VideoFolder(files, "videos")
    path = files.first(*(name.format(split) for name in FILE_NAMES))

    def make(row: Row) -> Iterator[Example]:
        video_id, text = row["video_id"], row.text("sentence")
        if is_nan_like(text):
            raise row.unusable("an empty sentence")
        start, end = row.span()
        if start is None or end is None:
            raise row.malformed(f"expected a span [start, end], found {row['span']!r:.200}")
        if start >= row["duration"]:
            raise row.unusable("its span begins after its video's end")
        yield caption_example(
            text,
            id=f"activitynet_captions:{split}:{video_id}_{row['number']}",
            media=videos.find(video_id, video_id.removeprefix("v_")),
            video_id=video_id,
            span=(start, min(end, row["duration"])),
        )

    rows = expanded(read_json_members(files, path), _sentences, skipped)
    yield from examples_of(rows, make, skipped, named_by=("video_id", "number"))


def _sentences(member: Row) -> Iterator[Row]:
    video = member.nested("value")
    duration = parse_seconds(video.get("duration"))
    spans, sentences = video.get("timestamps"), video.get("sentences")
    if not duration:
        raise member.malformed(f"field 'duration' is {video.get('duration')!r:.200}, not seconds")
    if not isinstance(spans, list) or not isinstance(sentences, list):
        raise member.malformed("fields 'timestamps' and 'sentences' must be lists")
    if len(spans) != len(sentences):
        raise member.malformed(f"it has {len(spans)} timestamps and {len(sentences)} sentences")
    video_id = Row({"video_id": member["name"]}, member.location).id("video_id")
    for number, (span, sentence) in enumerate(zip(spans, sentences, strict=True)):
        # A wrong span costs its own sentence; raised here, the error would cost all of the video.
        start, end = span if isinstance(span, list) and len(span) == 2 else (None, None)
        fields = {"video_id": video_id, "number": number, "duration": duration, "span": span}
        yield Row(
            {**fields, "start": start, "end": end, "sentence": sentence},
            f"{member.location}:{member['name']}:{number}",
        )
