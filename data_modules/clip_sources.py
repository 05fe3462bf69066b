"""Sources of clips: which videos there are, without opening them.

Each source yields its videos once, in an order that does not matter: whatever is drawn of them is
drawn by hashes of their ids. Videos that an evaluation set holds are left out here.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from typing_extensions import override

from data_modules.clip_source_config import UNKNOWN_LICENCE, ClipSourceConfig
from data_modules.clip_spans import MAX_VIDEO_SECONDS, disjoint, seeded_hash
from data_modules.corpora import CorpusConfig
from data_modules.ego4d import (
    EGOSCHEMA_FILE,
    NARRATIONS,
    Ego4dVideo,
    ego4d_folder,
    ego4d_narrations,
    ego4d_videos,
    egoschema_videos,
)
from data_modules.excluded_clips import ExcludedClips
from data_modules.files import Files
from data_modules.present_files import PresentFiles, videos_below
from data_modules.readers import read_corpus
from data_modules.rows import Span
from data_modules.skipped_rows import SkippedRows
from data_modules.smallest_hashes import SmallestHashes
from vidreason.example import Example
from vidreason.reasoning.outcomes import outcome_of
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip

MAX_REFERENCE_CHARS = 4000
MAX_SCENARIO_CHARS = 100

_SPARE = 2
"""So many times the wanted videos of a scenario are held, for those that turn out unusable."""


class SourceVideo(NamedTuple):
    """A video that clips may be of."""

    video_id: str
    media: str
    parts: tuple[Span, ...]
    """Disjoint parts of it that clips may be of, in the order of time."""
    references: tuple[str, ...]
    """Text of the annotations about each part; empty where there is none."""
    scenario: str
    licence: str


class ClipSource(ABC):
    """One source.

    Args:
        config: Which.
        excluded: Videos that evaluation sets hold.
        skipped: Counts what is left out.

    Attributes:
        remarks: What a reader of the report should know of it.
    """

    def __init__(
        self, config: ClipSourceConfig, excluded: ExcludedClips, skipped: SkippedRows
    ) -> None:
        self.config = config
        self.skipped = skipped
        self.remarks: list[str] = []
        self._excluded = excluded

    @abstractmethod
    def videos(self, num_clips: int) -> Iterator[SourceVideo]:
        """Yield each video once, or of very many at least what ``num_clips`` clips need.

        Raises:
            ValueError: A file is missing or wrong as a whole.
        """

    def with_references(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips with what annotations say about their spans."""
        return list(clips)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


class Ego4dSource(ClipSource):
    """Ego4D's training videos, by their metadata.

    A video of several scenarios counts for the rarest.
    """

    @override
    def videos(self, num_clips: int) -> Iterator[SourceVideo]:
        self._files = Files(self.config.root)
        if not self._files.exists(EGOSCHEMA_FILE):
            raise ValueError(
                f"source {self.config.name!r}: there is no {EGOSCHEMA_FILE} in "
                f"{self.config.root!r}, so EgoSchema's videos cannot be left out; copy it from "
                "EgoSchema's repository"
            )
        held_out = egoschema_videos(self._files)
        listed = ego4d_videos(self._files, self.skipped)
        folder = ego4d_folder(self._files)
        # Videos that are there, that are nobody's benchmark, and that nothing else excludes.
        presence = PresentFiles(self.remarks)
        usable = {}
        for uid, video in listed.items():
            media = str(self._files.path(folder, f"{uid}.mp4"))
            cause = self._refusal(uid, video, media, held_out, presence)
            if cause:
                self.skipped.record(printable(f"{self.config.root}:{uid}"), cause)
            elif not self._excluded.by_video(self.config.name, "ego4d", uid, media):
                usable[uid] = (media, video)
        # Of the scenarios of a video the rarest, or rare ones would hide behind frequent ones.
        counts: dict[str, int] = {}
        for _, video in usable.values():
            for scenario in video.scenarios:
                counts[scenario] = counts.get(scenario, 0) + 1
        for uid, (media, video) in usable.items():
            self.skipped.num_read += 1
            scenario = min(video.scenarios, key=lambda name: (counts[name], name), default="")
            part = (0.0, video.duration_seconds)
            yield _video(uid, media, {part: ""}, scenario, self.config.licence)

    def _refusal(
        self,
        uid: str,
        video: Ego4dVideo,
        media: str,
        held_out: set[str],
        presence: PresentFiles,
    ) -> str:
        """Why a video is not used; empty if it is."""
        if uid in held_out:
            return "EgoSchema asks about it"
        if video.splits - {"train"}:
            # Also of a split that no release is known to have.
            return f"of the split {printable(max(video.splits - {'train'}), 40)}"
        # Ids become parts of paths.
        if not uid.isprintable() or os.path.basename(uid) != uid:
            return "its id is no file name"
        if video.duration_seconds > MAX_VIDEO_SECONDS:
            return "it is said to last more than a week"
        return presence.refusal(media)

    @override
    def with_references(self, clips: Sequence[Clip]) -> list[Clip]:
        if not self._files.exists(NARRATIONS):
            self._remark(f"there is no {NARRATIONS}: nothing is known of what the clips show")
            return list(clips)
        by_video: dict[str, list[int]] = {}
        for number, clip in enumerate(clips):
            by_video.setdefault(clip.video_id, []).append(number)
        result = list(clips)
        # Any number may be malformed: a clip of which nothing is told is still a clip.
        counts = SkippedRows(max_malformed_fraction=1.0)
        for uid, narrations in ego4d_narrations(self._files, by_video, counts):
            for number in by_video[uid]:
                clip = result[number]
                start, end = clip.start_seconds or 0.0, clip.end_seconds or 0.0
                # Without the end, which is the start of the clip that follows.
                told = [text for moment, text in narrations if start <= moment < end]
                result[number] = replace(clip, reference=_joined(told))
        if counts.num_skipped:
            self._remark(f"narrations that are not read: {counts.summary()}")
        return result


class CorpusSource(ClipSource):
    """The videos of a corpus, by what its reader yields.

    Scenarios are Something-Something's templates, and kinds of outcomes; those of a video's first
    row count.
    """

    @override
    def videos(self, num_clips: int) -> Iterator[SourceVideo]:
        config = self.config
        corpus = CorpusConfig(
            reader=config.reader or config.kind, root=config.root, split=config.split
        )
        presence = PresentFiles(self.remarks)
        # A sample of the videos in one pass, whatever their number: those of the smallest hashes,
        # and some to spare.
        held: SmallestHashes[_Rows] = SmallestHashes(_SPARE * num_clips + 100)
        refused: set[int] = set()
        examples = read_corpus(corpus, self.skipped)
        for video_id, group in groupby(examples, key=lambda example: example.video_id):
            rows = list(group)
            number = seeded_hash(config.name, video_id)
            # A video may come again further down the file.
            if number in refused:
                continue
            entry = held.get(video_id)
            if entry is None:
                media = rows[0].media
                cause = presence.refusal(media)
                if cause:
                    self.skipped.record_refused(printable(f"{config.name}:{video_id}"), cause)
                if cause or self._excluded.by_video(config.name, corpus.reader, video_id, media):
                    refused.add(number)
                    continue
                entry = _Rows(media, _scenario(rows), _licence(rows, config), {})
                held.add(entry.scenario, number, video_id, entry)
            for example in rows:
                # Rows of one id that name several files are of one video, by its first file.
                if example.media == entry.media:
                    span = (example.start_seconds, example.end_seconds)
                    entry.texts.setdefault(span, []).append(_told(example))
        for video_id, entry in held:
            texts = {span: _joined(told) for span, told in entry.texts.items()}
            yield _video(video_id, entry.media, texts, entry.scenario, entry.licence)


class FolderSource(ClipSource):
    """All videos below a folder; folders in it are scenarios."""

    @override
    def videos(self, num_clips: int) -> Iterator[SourceVideo]:
        config = self.config
        for name, path in videos_below(config.root, self.skipped):
            # Benchmarks name videos without the extension.
            stem = os.path.splitext(name)[0]
            if not self._excluded.by_video(config.name, config.name, stem, path):
                self.skipped.num_read += 1
                scenario = name.split("/")[0] if "/" in name else ""
                yield _video(name, path, {(None, None): ""}, scenario, config.licence)


def build_source(
    config: ClipSourceConfig, excluded: ExcludedClips, skipped: SkippedRows
) -> ClipSource:
    """The source of a configuration; nothing is read yet."""
    kinds: dict[str, type[ClipSource]] = {"ego4d": Ego4dSource, "folder": FolderSource}
    return kinds.get(config.kind, CorpusSource)(config, excluded, skipped)


class _Rows(NamedTuple):
    """Texts of the rows of one video."""

    media: str
    scenario: str
    licence: str
    texts: dict[Span, list[str]]


def _video(
    video_id: str, media: str, texts: dict[Span, str], scenario: str, licence: str
) -> SourceVideo:
    parts = disjoint(texts, seeded_hash(video_id))
    return SourceVideo(
        video_id,
        media,
        tuple(parts),
        tuple(texts[part] for part in parts),
        printable(scenario, MAX_SCENARIO_CHARS),
        licence or UNKNOWN_LICENCE,
    )


def _scenario(rows: Sequence[Example]) -> str:
    for example in rows:
        outcome = outcome_of(example.meta)
        name = example.meta.get("template") or (outcome.kind if outcome else "")
        if name:
            return name
    return ""


def _licence(rows: Sequence[Example], config: ClipSourceConfig) -> str:
    tags = (example.meta.get("license_tag", "") for example in rows)
    return config.licence or printable(next(filter(None, tags), ""), MAX_SCENARIO_CHARS)


def _told(example: Example) -> str:
    """The text of a row: a caption, or a question and its right answer."""
    return f"{example.meta.get('question', '')} {example.response}".strip()


def _joined(texts: Sequence[str]) -> str:
    """Different texts as one, without what no file can hold."""
    text = " ".join(dict.fromkeys(filter(None, texts)))[:MAX_REFERENCE_CHARS]
    return text.encode("utf-8", "backslashreplace").decode()
