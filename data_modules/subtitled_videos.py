"""A folder of videos with a subtitle file each: what is said when, a sentence at a time."""

from collections.abc import Iterator
from pathlib import Path

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.hd_vila import SUBTITLE_SUFFIXES
from data_modules.rows import MalformedRowError, Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.subtitles import Cue, read_subtitles
from data_modules.video_files import VIDEO_EXTENSIONS
from vidreason.example import Example

MAX_PAUSE_SECONDS = 1.0
"""A longer silence ends a sentence, with or without a full stop."""
MAX_SENTENCE_SECONDS = 15.0
"""Automatic subtitles have no full stops; what is said is cut then."""


def read_subtitled_videos(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one captioning example for each sentence that is said, with its span.

    Layout: ``<root>/<split>/<video>.mp4`` (or another container), and beside it ``<video>.vtt``,
    ``.srt`` or ``.json3``, with or without a language before it. Cues are put together to
    sentences: up to a full stop, a pause of a second, or fifteen seconds. Left out and counted are
    videos without subtitles. Malformed is a video whose subtitle file is damaged.

    Raises:
        ValueError: There is no such folder, or no video in it.
    """
    names = files.names(split)
    videos = [name for name in names if name.lower().endswith(VIDEO_EXTENSIONS)]
    if not videos:
        raise ValueError(
            f"{files.path(split)} holds no video: check the corpus' root and split, whose folder "
            "holds the videos with their subtitles"
        )
    for video in videos:
        video_id = Path(video).stem
        location = str(files.path(split, video))
        # The first of the known endings that is there.
        name = next((n for n in map(f"{video_id}{{}}".format, SUBTITLE_SUFFIXES) if n in names), "")
        if not name:
            skipped.record(location, "it has no subtitle file")
            continue
        try:
            cues = read_subtitles(files, files.path(split, name))
        except ValueError as error:
            skipped.record_malformed(MalformedRowError(location, f"its subtitles: {error}"))
            continue

        # video_id is bound now: the loop goes on while rows are read.
        def make(row: Row, video_id: str = video_id) -> Iterator[Example]:
            if is_nan_like(row["text"]):
                raise row.unusable("an empty sentence")
            yield caption_example(
                row["text"],
                id=f"subtitled_videos:{split}:{video_id}_{row['number']}",
                media=row.location.rpartition(":")[0],
                video_id=video_id,
                span=row.span(),
            )

        yield from examples_of(_sentences(cues, location), make, skipped)


def _sentences(cues: list[Cue], location: str) -> Iterator[Row]:
    parts: list[Cue] = []
    number = 0
    for cue in [*cues, None]:
        # A full stop, a pause or enough seconds; None is the end of the file.
        ends = parts and (
            cue is None
            or parts[-1].text.rstrip("\"')").endswith((".", "!", "?"))
            or cue.start_seconds - parts[-1].end_seconds > MAX_PAUSE_SECONDS
            or cue.end_seconds - parts[0].start_seconds > MAX_SENTENCE_SECONDS
        )
        if ends:
            text = " ".join(part.text for part in parts)
            fields = {"number": number, "text": text}
            fields |= {"start": parts[0].start_seconds, "end": parts[-1].end_seconds}
            yield Row(fields, f"{location}:{number}")
            parts, number = [], number + 1
        if cue is not None:
            parts.append(cue)
