"""The sample of clips that a teacher is asked about (section 4.1.2): seeded, stratified, disjoint.

Sources share the clips by their weights, scenarios of a source evenly, and videos of a scenario
evenly; of a video, clips are taken of the quarter of lengths that its scenario has least of. Who
has less than its share gives all it has, and the others share the rest. So each scenario is there
where there is room, and a video has a second clip only where all videos of its scenario have one.

The same configuration and annotations give the same clips, in the same order, on every machine,
whatever the order of files and rows: all that is drawn follows from hashes of the seed and of ids.
Rows of videos that are left out change nothing, and neither does another source that has enough.
The order is shuffled, so that the first clips are a sample of their own. A video's split follows
from its source and id alone: whatever is sampled later, it stays in that split.
"""

import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_modules.clip_report import SampleReport, SourceReport, clip_counts
from data_modules.clip_source_config import ClipSourceConfig
from data_modules.clip_sources import ClipSource, SourceVideo, build_source
from data_modules.clip_spans import deal_out, seeded_hash
from data_modules.clip_stock import Candidate, ClipStock
from data_modules.excluded_clips import ExcludedClips, picture_hash
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION, SkippedRows
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip
from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.media import file_identity
from vidreason.video.reader import GUARDED, VideoReader

logger = logging.getLogger(__name__)

MAX_UNREADABLE_FRACTION = 0.1
"""Share of a source's opened videos that may be unreadable."""

_MAX_ROUNDS = 20
"""So often clips that evaluation sets exclude are replaced by others. A round passes once over the
narrations of Ego4D; unless most clips are excluded, two or three are enough."""


@dataclass(kw_only=True)
class SampledClips:
    """A sample and what to know of it."""

    clips: list[Clip]
    """In the order in which they are to be asked about."""
    report: SampleReport


def sample_clips(
    sources: Sequence[ClipSourceConfig],
    num_clips: int,
    seed: int = 0,
    validation_fraction: float = 0.02,
    exclusion: ExcludedClips | None = None,
    *,
    folder: Path | None = None,
    reader: VideoReader = GUARDED,
    max_malformed_fraction: float = MAX_MALFORMED_FRACTION,
    max_unreadable_fraction: float = MAX_UNREADABLE_FRACTION,
) -> SampledClips:
    """Sample clips; fewer than wanted where the sources have no more, which the report says.

    Memory grows with the videos of the sources that could be needed, not with their rows.

    Args:
        sources: Where they are sampled.
        num_clips: Number of clips.
        seed: Of all that is drawn.
        validation_fraction: Share of the videos whose clips are of the split ``val``.
        exclusion: Evaluation sets that nothing may be of; None for none.
        folder: Gets a file of what was left out and one of unreadable videos for each source; None
            to count only.
        reader: Opens videos, where annotations do not tell enough.
        max_malformed_fraction: Share of a source's rows that may be malformed.
        max_unreadable_fraction: Share of the videos opened of a source that may be unreadable.

    Raises:
        ValueError: There is no source, two have one name, a file is missing or wrong as a whole, or
            too many rows are malformed.
        UnreadableVideosError: Too many videos cannot be read.
    """
    # Names tell sources apart in reports, files and clips.
    names = Counter(source.name for source in sources)
    if not names:
        raise ValueError("sources is empty; name where clips are sampled")
    if max(names.values()) > 1:
        raise ValueError(
            f"sources: {names.most_common(1)[0][0]!r} is the name of two of them; give each a name"
        )
    excluded = ExcludedClips() if exclusion is None else exclusion
    # Of sources that share videos, the first one has them.
    seen: set[Hashable] = set()
    lots = []
    for config in sources:
        path = None if folder is None else folder / f"left-out-{config.name}.jsonl"
        skipped = SkippedRows(path, max_malformed_fraction=max_malformed_fraction)
        source = build_source(config, excluded, skipped)
        videos = _first_seen(source, num_clips, seen, is_only=len(sources) == 1)
        skipped.check_malformed(max_malformed_fraction)
        path = None if folder is None else folder / f"unreadable-{config.name}.jsonl"
        failures = FailureLog(path, max_unreadable_fraction, len(videos))
        stock = ClipStock(config, videos, seed, skipped=skipped, failures=failures, reader=reader)
        lots.append(_Lot(source, stock, failures))
        logger.info("source %s: %d videos", config.name, len(videos))
    # From here on videos are opened.
    shares = _chosen_lots(lots, num_clips, validation_fraction, excluded, reader)
    clips = [clip for lot in lots for clip in lot.chosen.values()]
    # An order that does not depend on the sources' order, nor on how many clips are wanted.
    clips.sort(key=lambda clip: seeded_hash(seed, clip.id))
    report = SampleReport(
        num_requested=num_clips,
        num_clips=len(clips),
        sources=[lot.report(share) for lot, share in zip(lots, shares, strict=True)],
        exclusion=excluded.report,
    )
    return SampledClips(clips=clips, report=report)


def split_of(video_id: str, validation_fraction: float) -> Literal["train", "val"]:
    """``val`` for that share of all videos, else ``train``; it follows from these values alone.

    Not from the source: two may have the same video, and sets of two kinds are compared.
    """
    return "val" if seeded_hash("split", video_id) < validation_fraction * 2**64 else "train"


def _first_seen(
    source: ClipSource, num_clips: int, seen: set[Hashable], *, is_only: bool
) -> list[SourceVideo]:
    """The videos of a source whose files no source before has; adds them to ``seen``."""
    if is_only:
        # No other source can have its files, so that none is looked at.
        return list(source.videos(num_clips))
    videos = []
    for video in source.videos(num_clips):
        identity = file_identity(video.media)
        if identity in seen:
            name = printable(f"{source.config.name}:{video.video_id}")
            source.skipped.record_refused(name, "a source before has the same file")
            continue
        videos.append(video)
        seen.add(identity)
    return videos


class _Lot:
    """A source, its stock, and the clips chosen of it."""

    def __init__(self, source: ClipSource, stock: ClipStock, failures: FailureLog) -> None:
        self.source, self.stock, self.failures = source, stock, failures
        self.chosen: dict[Candidate, Clip] = {}
        self._checked: dict[Candidate, Clip] = {}  # sound ones of earlier rounds, too

    def choose(
        self,
        number: int,
        validation_fraction: float,
        excluded: ExcludedClips,
        reader: VideoReader,
    ) -> int:
        """Choose clips and return how many of them are excluded, and banned from now on."""
        candidates = self.stock.choose(number)
        # What an earlier round found sound is not compared again: for pictures the clip is decoded.
        new = [candidate for candidate in candidates if candidate not in self._checked]
        clips = []
        for candidate in new:
            video_id = self.stock.videos[candidate.video].video_id
            split = split_of(video_id, validation_fraction)
            clips.append(self.stock.clip(candidate, split))
        num_excluded = 0
        for candidate, clip in zip(new, self.source.with_references(clips), strict=True):
            if excluded.by_text(clip) or self._has_excluded_pictures(clip, excluded, reader):
                self.stock.ban(candidate)
                num_excluded += 1
            else:
                self._checked[candidate] = clip
        # Without those just banned, whose number the next round fills up.
        self.chosen = {one: self._checked[one] for one in candidates if one in self._checked}
        return num_excluded

    def report(self, share: int) -> SourceReport:
        """Counts of the chosen clips and of what was left out."""
        config, skipped = self.stock.config, self.source.skipped
        edges = self.stock.quarter_edges()
        chosen = [(clip, one.length_seconds) for one, clip in self.chosen.items()]
        return SourceReport(
            name=config.name,
            kind=config.kind,
            num_requested=share,
            num_videos_known=len(self.stock.videos),
            left_out=dict(skipped.causes),
            first_left_out=dict(skipped.first_locations),
            malformed=list(skipped.malformed),
            num_opened=self.failures.num_samples,
            unreadable={str(cause): n for cause, n in self.failures.causes.items()},
            remarks=list(self.source.remarks),
            **clip_counts(chosen, edges),
        )

    def _has_excluded_pictures(
        self, clip: Clip, excluded: ExcludedClips, reader: VideoReader
    ) -> bool:
        """Compare pictures, where that is wanted; clips that cannot be read are left out."""
        if not excluded.compares_pictures:
            return False
        try:
            video = picture_hash(clip, reader)
        except VideoReadError as error:
            self.failures.record(1, [error.failure(clip.id)])
            return True  # banned like an excluded one, so that another clip is chosen
        self.failures.record(1)
        return excluded.by_pictures(clip, video)


def _chosen_lots(
    lots: Sequence[_Lot],
    num_clips: int,
    validation_fraction: float,
    excluded: ExcludedClips,
    reader: VideoReader,
) -> list[int]:
    """Choose clips of all lots until none is excluded; return the first shares by weight."""
    weights = [lot.stock.config.weight for lot in lots]
    for _ in range(_MAX_ROUNDS):
        shares = _shares(lots, num_clips, weights)
        num_excluded = sum(
            lot.choose(share, validation_fraction, excluded, reader)
            for lot, share in zip(lots, shares, strict=True)
        )
        if not num_excluded:
            break
        logger.info("%d clips are in evaluation sets; choosing others", num_excluded)
    # Without regard to what a source has: the report sets this beside what it gave.
    return deal_out(num_clips, [num_clips] * len(lots), weights)


def _shares(lots: Sequence[_Lot], num_clips: int, weights: Sequence[float]) -> list[int]:
    """Clips of each lot, by weights and by what it has."""
    capacities = [num_clips] * len(lots)
    while True:
        shares = deal_out(num_clips, capacities, weights)
        # A source opens no more videos than its share takes; more only if others run short.
        available = [
            min(lot.stock.prepare(share), num_clips)
            for lot, share in zip(lots, shares, strict=True)
        ]
        short = [have < share for have, share in zip(available, shares, strict=True)]
        if not any(short):
            return shares
        # What one does not have, the others share.
        capacities = [
            have if is_short else capacity
            for have, is_short, capacity in zip(available, short, capacities, strict=True)
        ]
