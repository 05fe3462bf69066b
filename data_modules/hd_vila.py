"""HD-VILA-100M: 100 million clips as spans of 3.3 million long videos (section 4.1.1).

The published jsonl files have no text (microsoft/XPretrain issue 2); the paper's is speech
recognised in the clips. It has to be brought along, as transcripts of clips or subtitles of videos.
Ids of videos may begin with ``-``; times may have no milliseconds; some clips have empty spans.
"""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from data_modules.annotation_files import check_span, id_field, is_nan_like, text_field
from data_modules.index_cache import note_file, note_folder
from data_modules.json_files import read_json_lines
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from data_modules.subtitles import Cue, parse_clock, read_subtitles, text_between
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT

SUBTITLE_SUFFIXES = tuple(
    f"{language}.{form}"
    for form in ("vtt", "srt", "json3")
    for language in ("", ".en", ".en-orig", ".en-US", ".en-GB")
)
"""After a video's id; the first that is there is read."""
LOOK_AHEAD = 10_000
"""Texts among which that of the next clip is looked for after a malformed row."""


def read_hd_vila(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one captioning example a clip.

    Layout: ``<root>/<split>/*.jsonl``, as published (``video_id``, ``clip`` with ``clip_id`` and
    ``span``), and the texts, either

    * ``<root>/<split>/<name>.asr.jsonl`` for each ``<name>.jsonl``: rows ``clip_id`` and ``text``
      in the order of the clips, with gaps where a clip has no text; or
    * ``<root>/subtitles/<video_id>.vtt`` (or another of ``SUBTITLE_SUFFIXES``): a clip's text are
      the cues whose middle lies in its span.

    Videos: where there is a folder ``<root>/video_clips``, the clips that the official script cut,
    ``video_clips/<video_id>/<clip_id>``, are used as they are (cut at key frames, so that they
    begin somewhat before their span); else spans of ``<root>/videos/<video_id>.mp4``.

    Left out are clips without text, with an empty or reversed span, or of a video whose subtitle
    file is damaged. A malformed row has no id, or a clip without an id or times.

    Raises:
        ValueError: A file is missing or wrong as a whole, or texts are not in the clips' order.
    """
    skipped = SkippedRows() if skipped is None else skipped
    note_folder(Path(root))
    note_folder(Path(root, split))
    paths = [
        path
        for path in sorted(Path(root, split).glob("*.jsonl"))
        if not path.name.endswith(".asr.jsonl")
    ]
    if not paths:
        raise ValueError(
            f"hd_vila root {root!r} has no {split}/*.jsonl: check the corpus' root and split"
        )
    are_cut = Path(root, "video_clips").is_dir()
    for path in paths:
        transcripts = _transcripts(root, path, skipped)

        def make(
            place: str, row: dict[str, Any], transcripts: _Texts = transcripts
        ) -> Iterator[Example]:
            video_id = _video_id(row, place)
            for clip_id, start, end in list(_clips(row, place)):
                try:
                    check_span(start, end, f"{place}:{clip_id}")
                    text = transcripts.find(video_id, clip_id, start, end, place)
                except UnusableRowError as left_out:
                    skipped.record(left_out.place, left_out.cause)
                    continue
                cut, whole = f"video_clips/{video_id}/{clip_id}", f"videos/{video_id}.mp4"
                yield Example(
                    id=f"hd_vila:{split}:{clip_id}",
                    corpus="hd_vila",
                    media=str(Path(root, cut if are_cut else whole)),
                    video_id=video_id,
                    start_seconds=None if are_cut else start,
                    end_seconds=None if are_cut else end,
                    prompt=CAPTION_PROMPT,
                    response=text,
                    answers=(text,),
                )

        rows = read_json_lines(path, skipped)
        yield from examples_of(rows, make, skipped, named_by=("video_id",))
        transcripts.check_finished()


def _video_id(row: dict[str, Any], place: str) -> str:
    video_id = id_field(row, "video_id", place)
    if "/" in video_id or "\0" in video_id:  # it names the file of subtitles, too
        raise MalformedRowError(place, f"field 'video_id' is {video_id!r:.200}, which is no id")
    return video_id


def _clips(row: dict[str, Any], place: str) -> Iterator[tuple[str, float, float]]:
    clips = row.get("clip")
    if not isinstance(clips, list):
        raise MalformedRowError(
            place, f"field 'clip' must be a list of clips, found {clips!r:.200}"
        )
    for clip in clips:
        span = clip.get("span") if isinstance(clip, dict) else None
        if not (
            isinstance(span, list) and len(span) == 2 and all(isinstance(t, str) for t in span)
        ):
            raise MalformedRowError(
                place,
                "field 'clip': expected 'clip_id' and 'span' of two times HH:MM:SS.mmm, found "
                f"{clip!r:.200}",
            )
        start, end = (parse_clock(time, place) for time in span)
        yield id_field(clip, "clip_id", place), start, end


class _Texts(Protocol):
    """The texts of clips."""

    def find(self, video_id: str, clip_id: str, start: float, end: float, place: str) -> str:
        """The text of one clip; raises an ``UnusableRowError`` if it has none."""
        ...

    def check_finished(self) -> None:
        """Raise a ``ValueError`` if a text is left that no clip took."""
        ...


def _transcripts(root: str, path: Path, skipped: SkippedRows) -> _Texts:
    beside = path.with_suffix(".asr.jsonl")
    note_file(beside)
    if beside.is_file():
        return _ClipTranscripts(beside, skipped)
    folder = Path(root, "subtitles")
    if not folder.is_dir():
        raise ValueError(
            f"HD-VILA's files hold no text, and there is neither {beside} nor the folder {folder}: "
            "bring transcripts of the clips, or subtitles of the videos"
        )
    note_folder(folder)
    return _Subtitles(folder)


class _ClipTranscripts:
    """Texts by clip, joined while both files are read once, so that neither is held in memory.

    A malformed row of the clips leaves texts that nobody takes: then, and only then, the next clip
    is looked for among the texts that follow.
    """

    def __init__(self, path: Path, skipped: SkippedRows) -> None:
        self._rows = read_json_lines(path, skipped)
        self._skipped = skipped
        self._ahead: deque[tuple[str, str, str]] = deque()  # location, id and text
        self._num_malformed = 0
        self._is_behind = False

    def find(self, video_id: str, clip_id: str, start: float, end: float, place: str) -> str:
        """The clip's text."""
        if self._skipped.num_malformed != self._num_malformed:
            self._num_malformed, self._is_behind = self._skipped.num_malformed, True
        self._read(LOOK_AHEAD if self._is_behind else 1)
        number = next((n for n, row in enumerate(self._ahead) if row[1] == clip_id), None)
        if number is None:
            raise UnusableRowError(f"{place}:{clip_id}", "no transcript")
        for _ in range(number):
            self._ahead.popleft()
        _, _, text = self._ahead.popleft()
        self._is_behind = False
        if is_nan_like(text):
            raise UnusableRowError(f"{place}:{clip_id}", "an empty transcript")
        return text

    def check_finished(self) -> None:
        """Raise a ``ValueError`` if a text is left that no clip took, and no lost row may have."""
        self._read(1)
        if self._ahead and not self._skipped.num_malformed:
            place, clip_id, _ = self._ahead[0]
            raise ValueError(
                f"{place}: clip {clip_id!r} does not come, or came before: transcripts must stand "
                "in the order of the clips, each once"
            )

    def _read(self, count: int) -> None:
        """Read until so many texts are at hand, if there are so many."""
        while len(self._ahead) < count:
            place, row = next(self._rows, ("", {}))
            if not place:
                return
            try:
                self._ahead.append(
                    (place, id_field(row, "clip_id", place), text_field(row, "text", place))
                )
            except MalformedRowError as error:
                self._skipped.record_malformed(error)


class _Subtitles:
    """Texts from one subtitle file a video; that of the video read last is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video_id = ""
        self._cues: list[Cue] = []
        self._cause = ""

    def find(self, video_id: str, clip_id: str, start: float, end: float, place: str) -> str:
        """What is said in the clip."""
        if video_id != self._video_id:
            self._video_id, self._cues = video_id, []
            self._cause = "its video has no subtitle file"
            files = [self._folder / f"{video_id}{suffix}" for suffix in SUBTITLE_SUFFIXES]
            path = next(filter(os.path.isfile, files), None)
            if path is not None:
                self._cause = "nothing is said in its span"
                try:
                    self._cues = read_subtitles(path)
                except ValueError:
                    self._cause = "its video's subtitle file is damaged"
        text = text_between(self._cues, start, end)
        if is_nan_like(text):
            raise UnusableRowError(f"{place}:{clip_id}", self._cause)
        return text

    def check_finished(self) -> None:
        """Subtitles of other videos may well be there."""
