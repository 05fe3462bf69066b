"""HD-VILA-100M: 100 million clips as spans of 3.3 million long videos (section 4.1.1).

The published jsonl files have no text (microsoft/XPretrain issue 2); the paper's is speech
recognised in the clips. It has to be brought along, as transcripts of clips or subtitles of videos.
Ids of videos may begin with ``-``; times may have no milliseconds; some clips have empty spans.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.rows import MalformedRowError, Row, UnusableRowError, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.subtitles import Cue, parse_clock, read_subtitles, text_between
from vidreason.example import Example

SUBTITLE_SUFFIXES = tuple(
    f"{language}.{form}"
    for form in ("vtt", "srt", "json3")
    for language in ("", ".en", ".en-orig", ".en-US", ".en-GB")
)
"""After a video's id; the first that is there is read."""
_TEXTS_SUFFIX = ".asr.jsonl"
LOOK_AHEAD = 10_000
"""Texts among which that of the next clip is looked for after a malformed row."""


def read_hd_vila(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    paths = [path for path in files.glob(split, "*.jsonl") if not path.name.endswith(_TEXTS_SUFFIX)]
    if not paths:
        raise ValueError(
            f"hd_vila root {files.root!r} has no {split}/*.jsonl: check the corpus' root and split"
        )
    are_cut = files.is_folder("video_clips")
    for path in paths:
        texts = _texts(files, path, skipped)

        # texts is bound now: the loop goes on while rows are read.
        def make(row: Row, texts: "_ClipTranscripts | _Subtitles" = texts) -> Iterator[Example]:
            video_id = row.id("video_id")
            if "/" in video_id or "\0" in video_id:  # it names the file of subtitles, too
                raise row.malformed(f"field 'video_id' is {video_id!r:.200}, which is no id")
            # All clips are parsed before the first text is taken: a malformed row takes none.
            for clip in list(_clips(row)):
                clip_id, start, end = clip["clip_id"], clip["start"], clip["end"]
                try:
                    clip.check_span(start, end)
                    text = texts.find(video_id, clip)
                except UnusableRowError as left_out:
                    skipped.record(left_out.location, left_out.cause)
                    continue
                # Clips that were cut begin somewhat before their span, and are shown whole.
                cut, whole = f"video_clips/{video_id}/{clip_id}", f"videos/{video_id}.mp4"
                yield caption_example(
                    text,
                    id=f"hd_vila:{split}:{clip_id}",
                    media=str(files.path(cut if are_cut else whole)),
                    video_id=video_id,
                    span=(None, None) if are_cut else (start, end),
                )

        rows = read_json_lines(files, path, skipped)
        yield from examples_of(rows, make, skipped, named_by=("video_id",))
        texts.check_finished()


def _clips(row: Row) -> Iterator[Row]:
    """The clips of a video: ``clip_id``, and ``start`` and ``end`` in seconds."""
    for clip in row.objects("clip"):
        times = list(map(parse_clock, clip.texts("span")))
        if len(times) != 2 or None in times:
            raise row.malformed(
                f"field 'span' must be two times HH:MM:SS.mmm, found {clip['span']!r:.200}"
            )
        clip_id = clip.id("clip_id")
        fields = {"clip_id": clip_id, "start": times[0], "end": times[1]}
        yield Row(fields, f"{row.location}:{clip_id}")


def _texts(files: Files, path: Path, skipped: SkippedRows) -> "_ClipTranscripts | _Subtitles":
    beside = path.with_suffix(_TEXTS_SUFFIX)
    if files.exists(beside):
        return _ClipTranscripts(files, beside, skipped)
    if not files.is_folder("subtitles"):
        raise ValueError(
            f"HD-VILA's files hold no text, and there is neither {beside} nor the folder "
            f"{files.path('subtitles')}: bring transcripts of the clips, or subtitles of the videos"
        )
    return _Subtitles(files)


class _ClipTranscripts:
    """Texts by clip, joined while both files are read once, so that neither is held in memory.

    A malformed row of the clips leaves texts that nobody takes: then, and only then, the next clip
    is looked for among the texts that follow.
    """

    def __init__(self, files: Files, path: Path, skipped: SkippedRows) -> None:
        self._rows = read_json_lines(files, path, skipped)
        self._skipped = skipped
        self._ahead: deque[Row] = deque()
        self._num_malformed = 0
        self._is_behind = False

    def find(self, video_id: str, clip: Row) -> str:
        """The clip's text."""
        if self._skipped.num_malformed != self._num_malformed:
            self._num_malformed, self._is_behind = self._skipped.num_malformed, True
        # In step, only the next text may be the clip's; else it is left for one of the next clips.
        self._read(LOOK_AHEAD if self._is_behind else 1)
        clip_id = clip["clip_id"]
        number = next((n for n, row in enumerate(self._ahead) if row["clip_id"] == clip_id), None)
        if number is None:
            raise clip.unusable("no transcript")
        # Those before it are of clips that the malformed row has lost.
        for _ in range(number):
            self._ahead.popleft()
        text: str = self._ahead.popleft()["text"]
        self._is_behind = False
        if is_nan_like(text):
            raise clip.unusable("an empty transcript")
        return text

    def check_finished(self) -> None:
        """Raise a ``ValueError`` if a text is left that no clip took, and no lost row may have."""
        self._read(1)
        if self._ahead and not self._skipped.num_malformed:
            row = self._ahead[0]
            raise ValueError(
                f"{row.location}: clip {row['clip_id']!r} does not come, or came before: "
                "transcripts must be in the order of the clips, each once"
            )

    def _read(self, count: int) -> None:
        """Read until ``count`` texts are at hand, or all that are left."""
        while len(self._ahead) < count:
            row = next(self._rows, None)
            if row is None:
                return
            try:
                fields = {"clip_id": row.id("clip_id"), "text": row.text("text")}
                self._ahead.append(Row(fields, row.location))
            except MalformedRowError as error:
                self._skipped.record_malformed(error)


class _Subtitles:
    """Texts from one subtitle file a video; that of the video read last is kept."""

    def __init__(self, files: Files) -> None:
        files.record_tree("subtitles")
        self._files = files
        self._video_id = ""
        self._cues: list[Cue] = []
        self._cause = ""

    def find(self, video_id: str, clip: Row) -> str:
        """The text that is spoken in the clip."""
        if video_id != self._video_id:
            self._video_id, self._cues = video_id, []
            self._cause = "its video has no subtitle file"
            names = (f"subtitles/{video_id}{suffix}" for suffix in SUBTITLE_SUFFIXES)
            name = next(filter(self._files.exists, names), None)
            if name is not None:
                self._cause = "nothing is said in its span"
                try:
                    self._cues = read_subtitles(self._files, self._files.path(name))
                except ValueError:
                    self._cause = "its video's subtitle file is damaged"
        text = text_between(self._cues, clip["start"], clip["end"])
        if is_nan_like(text):
            raise clip.unusable(self._cause)
        return text

    def check_finished(self) -> None:
        """Subtitles of other videos may well be there."""
