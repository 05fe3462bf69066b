"""HD-VILA-100M: 100 million clips as spans of 3.3 million long videos (section 4.1.1).

The published jsonl files have no text (microsoft/XPretrain issue 2); the paper's is speech
recognised in the clips. It has to be brought along, as transcripts of clips or subtitles of videos.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, text_field
from data_modules.index_cache import note_file, note_folder
from data_modules.json_files import read_json_lines
from data_modules.skipped_rows import SkippedRows
from data_modules.subtitles import Cue, parse_clock, read_subtitles, text_between
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT

SUBTITLE_SUFFIXES = (".vtt", ".en.vtt", ".srt", ".en.srt")


def read_hd_vila(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one captioning example a clip.

    Layout: ``<root>/<split>/*.jsonl``, as published (``video_id``, ``clip`` with ``clip_id`` and
    ``span``), and the texts, either

    * ``<root>/<split>/<name>.asr.jsonl`` for each ``<name>.jsonl``: rows ``clip_id`` and ``text``
      in the order of the clips, with gaps where a clip has no text; or
    * ``<root>/subtitles/<video_id>.vtt`` (or ``.en.vtt``, ``.srt``, ``.en.srt``): a clip's text are
      the cues whose middle lies in its span.

    Videos: where there is a folder ``<root>/video_clips``, the clips that the official script cut,
    ``video_clips/<video_id>/<clip_id>``, are used as they are (cut at key frames, so that they
    begin somewhat before their span); else spans of ``<root>/videos/<video_id>.mp4``.

    Left out are clips without text, with an empty span, or of a video whose subtitle file is
    damaged.

    Raises:
        ValueError: A file is missing, a line is malformed, or texts are not in the clips' order.
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
        transcripts = _transcripts(root, path)
        for place, row in read_json_lines(path):
            video_id = id_field(row, "video_id", place)
            for clip_id, start, end in _clips(row, place):
                if end <= start:
                    skipped.record(f"{place}:{clip_id}", "its span is empty")
                    continue
                text, cause = transcripts.find(video_id, clip_id, start, end)
                if is_nan_like(text):
                    skipped.record(f"{place}:{clip_id}", cause)
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
        transcripts.check_finished()


def _clips(row: dict[str, Any], place: str) -> Iterator[tuple[str, float, float]]:
    clips = row.get("clip")
    if not isinstance(clips, list):
        raise ValueError(f"{place}: field 'clip' must be a list of clips, found {clips!r:.200}")
    for clip in clips:
        span = clip.get("span") if isinstance(clip, dict) else None
        if not (
            isinstance(span, list) and len(span) == 2 and all(isinstance(t, str) for t in span)
        ):
            raise ValueError(
                f"{place}: field 'clip': expected 'clip_id' and 'span' of two times HH:MM:SS.mmm, "
                f"found {clip!r:.200}"
            )
        start, end = (parse_clock(time, place) for time in span)
        yield id_field(clip, "clip_id", place), start, end


def _transcripts(root: str, path: Path) -> "_ClipTranscripts | _Subtitles":
    beside = path.with_suffix(".asr.jsonl")
    note_file(beside)
    if beside.is_file():
        return _ClipTranscripts(beside)
    folder = Path(root, "subtitles")
    if not folder.is_dir():
        raise ValueError(
            f"HD-VILA's files hold no text, and there is neither {beside} nor the folder {folder}: "
            "bring transcripts of the clips, or subtitles of the videos"
        )
    note_folder(folder)
    return _Subtitles(folder)


class _ClipTranscripts:
    """Texts by clip, joined while both files are read once, so that neither is held in memory."""

    def __init__(self, path: Path) -> None:
        self._rows = read_json_lines(path)
        self._place, self._clip_id, self._text = "", "", ""
        self._advance()

    def find(self, video_id: str, clip_id: str, start: float, end: float) -> tuple[str, str]:
        """The clip's text, and why there is none if it is empty."""
        if clip_id != self._clip_id:
            return "", "no transcript"
        text = self._text
        self._advance()
        return text, "an empty transcript"

    def check_finished(self) -> None:
        """Raise a ``ValueError`` if a text is left that no clip took."""
        if self._clip_id:
            raise ValueError(
                f"{self._place}: clip {self._clip_id!r} does not come, or came before: transcripts "
                "must stand in the order of the clips, each once"
            )

    def _advance(self) -> None:
        self._clip_id = ""
        for place, row in self._rows:
            self._place = place
            self._clip_id = id_field(row, "clip_id", place)
            self._text = text_field(row, "text", place)
            return


class _Subtitles:
    """Texts from one subtitle file a video; that of the video read last is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video_id = ""
        self._cues: list[Cue] = []
        self._cause = ""

    def find(self, video_id: str, clip_id: str, start: float, end: float) -> tuple[str, str]:
        """The clip's text, and why there is none if it is empty."""
        if video_id != self._video_id:
            self._video_id, self._cues = video_id, []
            self._cause = "its video has no subtitle file"
            files = [self._folder / f"{video_id}{suffix}" for suffix in SUBTITLE_SUFFIXES]
            path = next((file for file in files if file.is_file()), None)
            if path is not None:
                self._cause = "nothing is said in its span"
                try:
                    self._cues = read_subtitles(path)
                except ValueError:
                    self._cause = "its video's subtitle file is damaged"
        return text_between(self._cues, start, end), self._cause

    def check_finished(self) -> None:
        """Subtitles of other videos may well be there."""
