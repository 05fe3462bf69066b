"""Evaluation sets of which nothing may come into an instruction set: no video, no text, no picture.

It is the comparison of :mod:`data_modules.contamination`, asked about one clip at a time. Pictures
cost the most, about as much as decoding 40 frames of each clip, and are compared only where that is
wanted.
"""

import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from data_modules.contamination import ContaminationCheck, Match
from data_modules.corpora import CorpusConfig
from data_modules.readers import read_corpus
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION, SkippedRows
from vidreason.example import Example
from vidreason.near_texts import TextIndex
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip
from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.media import file_identity
from vidreason.video.perceptual_hash import VideoHash, hash_video
from vidreason.video.reader import GUARDED, VideoReader

logger = logging.getLogger(__name__)

_MAX_UNREADABLE_FRACTION = 0.01
"""Share of an evaluation corpus' videos that may be unreadable, where pictures are compared."""

NUM_SHOWN = 20
"""Exclusions that are kept by name."""


class Exclusion(NamedTuple):
    """A video or clip that was left out, and why."""

    source: str
    cause: str
    """One of :data:`data_modules.contamination.KINDS`."""
    name: str
    """Source and id of the video, or of the clip."""
    evaluation_id: str
    """The evaluation example that it matches."""
    detail: str
    """The shared id or file, the similarity of texts, or the distance of pictures."""


@dataclass(kw_only=True)
class EvaluationSet:
    """An evaluation corpus, and what of it is compared."""

    name: str
    num_examples: int = 0
    num_left_out: int = 0
    """Rows that its reader leaves out; nothing is known of them."""
    num_videos_hashed: int = 0
    """Videos (or spans) whose pictures are compared."""
    num_not_hashed: int = 0
    """Videos (or spans) that cannot be read: their pictures are not compared."""


@dataclass(kw_only=True)
class ExclusionReport:
    """The evaluation sets, and what was left out for their sake."""

    evaluation_sets: list[EvaluationSet] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By source and cause. For ``id`` and ``file`` videos are counted, else clips."""
    first: list[Exclusion] = field(default_factory=list)
    """The first ``NUM_SHOWN``."""


class ExcludedClips:
    """Everything that must not be in an instruction set; it is held in memory.

    Args:
        compares_pictures: Whether pictures are compared.
        min_text_similarity: From which share of common three-word sequences on two texts are nearly
            the same, in (0, 1].

    Attributes:
        report: What was left out so far.
    """

    def __init__(
        self, *, compares_pictures: bool = False, min_text_similarity: float = 0.8
    ) -> None:
        self.compares_pictures = compares_pictures
        self.report = ExclusionReport()
        self._check = ContaminationCheck(min_text_similarity)

    @property
    def texts(self) -> TextIndex:
        """Texts of the evaluation sets, to compare answers with."""
        return self._check.evaluation_texts

    def add_corpus(self, corpus: CorpusConfig, *, reader: VideoReader = GUARDED) -> None:
        """Exclude all examples of an evaluation corpus.

        Args:
            corpus: The corpus.
            reader: Reads its videos, where pictures are compared.

        Raises:
            ValueError: It has a limit, a file is missing or wrong as a whole, it has no example, or
                too many rows are malformed.
            UnreadableVideosError: Too many of its videos cannot be read.
        """
        if corpus.limit is not None:
            raise ValueError(
                f"exclude: {corpus} has limit {corpus.limit}, so that all further examples would "
                "not be excluded; remove its limit"
            )
        # Videos are kept only where pictures are compared.
        # Quiet: all of its rows are told of at once, below.
        skipped = SkippedRows(max_malformed_fraction=MAX_MALFORMED_FRACTION, quiet=True)
        videos: dict[Hashable, Example] = {}
        entry = EvaluationSet(name=f"{corpus.reader}:{corpus.split}")
        for example in read_corpus(corpus, skipped):
            entry.num_examples += 1
            self._check.add_evaluation(example)
            if self.compares_pictures:
                span = (example.start_seconds, example.end_seconds)
                videos.setdefault((file_identity(example.media), *span), example)
        skipped.check_malformed(MAX_MALFORMED_FRACTION)
        entry.num_left_out = skipped.num_skipped
        if skipped.num_skipped:
            logger.warning(
                "exclude: %s: %d rows give no example, and nothing is known of their videos: %s",
                corpus,
                skipped.num_skipped,
                skipped.summary(),
            )
        # Each span of a video is hashed once, however many questions are about it.
        failures = FailureLog(None, _MAX_UNREADABLE_FRACTION, len(videos))
        for example in videos.values():
            try:
                video = hash_video(*example.media_span, reader=reader)
            except VideoReadError as error:
                entry.num_not_hashed += 1
                failures.record(1, [error.failure(example.id)])
            else:
                entry.num_videos_hashed += 1
                self._check.add_evaluation_hash(example, video)
                failures.record(1)
        self.report.evaluation_sets.append(entry)

    def by_video(self, source: str, corpus: str, video_id: str, media: str) -> bool:
        """Return whether a video is excluded by its id or file, and count it if so.

        Args:
            source: Name of its source.
            corpus: Name of the reader of its annotations: ids of digits only are compared within
                one corpus.
            video_id: Its id.
            media: Its path or URL.
        """
        example = _example(f"{source}:{video_id}", corpus, video_id, media)
        return self._count(source, self._check.check_video(example))

    def by_text(self, clip: Clip) -> bool:
        """Return whether a clip is excluded by its reference, and count it if so."""
        example = _example(clip.id, clip.source, clip.video_id, clip.media, clip.reference)
        return self._count(clip.source, self._check.check_text(example))

    def by_pictures(self, clip: Clip, video: VideoHash) -> bool:
        """Return whether a clip is excluded by its pictures, and count it if so.

        Args:
            clip: The clip.
            video: Of :func:`picture_hash`.
        """
        example = _example(clip.id, clip.source, clip.video_id, clip.media)
        return self._count(clip.source, self._check.check_hash(example, video))

    def _count(self, source: str, matches: Sequence[Match]) -> bool:
        """Count a video or clip by the first of its matches."""
        if not matches:
            return False
        match = matches[0]
        self.report.counts[source, match.kind] += 1
        if len(self.report.first) < NUM_SHOWN:
            shown = (match.kind, match.training_id, match.evaluation_id, match.detail)
            self.report.first.append(Exclusion(source, *map(printable, shown)))
        return True


def read_excluded(
    corpora: Sequence[CorpusConfig],
    *,
    compare_pictures: bool = False,
    min_text_similarity: float = 0.8,
    reader: VideoReader = GUARDED,
) -> ExcludedClips:
    """Read all evaluation corpora; see :meth:`ExcludedClips.add_corpus`.

    Raises:
        ValueError: One of them cannot be read.
        UnreadableVideosError: Too many videos of one of them cannot be read.
    """
    excluded = ExcludedClips(
        compares_pictures=compare_pictures, min_text_similarity=min_text_similarity
    )
    for corpus in corpora:
        excluded.add_corpus(corpus, reader=reader)
    return excluded


def picture_hash(clip: Clip, reader: VideoReader = GUARDED) -> VideoHash:
    """Hash the pictures of a clip.

    Raises:
        VideoReadError: It cannot be read.
    """
    return hash_video(clip.media, clip.start_seconds, clip.end_seconds, reader=reader)


def _example(name: str, corpus: str, video_id: str, media: str, text: str = "") -> Example:
    return Example(id=name, corpus=corpus, media=media, video_id=video_id, prompt="", response=text)
