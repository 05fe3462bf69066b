"""Clips that can be cut from the videos of one source, and the choice of some of them.

Everything follows from hashes of ids and the seed, never from an order of files or rows. Videos are
opened only where their annotations do not say where clips begin and end, one after the other until
there are enough.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from data_modules.clip_source_config import ClipSourceConfig
from data_modules.clip_sources import SourceVideo
from data_modules.clip_spans import (
    MAX_VIDEO_SECONDS,
    Stretch,
    cut_stretches,
    deal_out,
    random_order,
    seeded_hash,
    stretch_of,
)
from data_modules.rows import Span
from data_modules.skipped_rows import SkippedRows
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip
from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.reader import VideoReader
from vidreason.video.scene_cuts import find_scene_cuts

NUM_QUARTERS = 4  # of the lengths, each drawn from in turn
UNKNOWN_LENGTH = NUM_QUARTERS
"""The quarter of clips whose length is not known."""


class Candidate(NamedTuple):
    """A clip that can be cut from a video."""

    video: int
    """Number of the video in the stock."""
    span: Span
    part: int
    """Number of the part of the video that it is in."""
    length_seconds: float | None
    """None where it is not known."""


class ClipStock:
    """The clips of one source.

    Args:
        config: The source.
        videos: Its videos.
        seed: Of the choice.
        skipped: Counts videos that are too short.
        failures: Counts videos that cannot be read; it knows how many may be.
        reader: Opens videos.
    """

    def __init__(
        self,
        config: ClipSourceConfig,
        videos: Sequence[SourceVideo],
        seed: int,
        *,
        skipped: SkippedRows,
        failures: FailureLog,
        reader: VideoReader,
    ) -> None:
        self.config = config
        self.videos = videos
        self._seed = seed
        self._skipped, self._failures, self._reader = skipped, failures, reader
        self._hashes = [seeded_hash(seed, config.name, video.video_id) for video in videos]
        self._order = iter(self._round_robin())
        self._opened: dict[int, tuple[tuple[int, Stretch], ...]] = {}
        self._lengths: dict[int, float] = {}  # of whole videos that were opened
        self._num_clips: dict[int, int] = {}  # by video
        self._num_all = 0
        # Counted by video, too: capacities are asked for far more often than clips are banned.
        self._banned: Counter[int] = Counter()
        self._banned_spans: set[tuple[int, Span]] = set()

    def prepare(self, number: int) -> int:
        """Look at videos until there are enough clips of enough videos, and return their number.

        It is less than ``number`` only where the source has no more.

        Raises:
            UnreadableVideosError: Too many videos cannot be read.
        """
        # As many videos as clips, where there are so many: one clip each. Then as many as it takes.
        while min(len(self._num_clips), self._num_all - self._banned.total()) < number:
            video = next(self._order, None)
            if video is None:
                break
            num_clips = self._look_at(video)
            if num_clips:
                self._num_clips[video] = num_clips
                self._num_all += num_clips
        return self._num_all - self._banned.total()

    def ban(self, candidate: Candidate) -> None:
        """Take a clip out of the stock."""
        if (candidate.video, candidate.span) not in self._banned_spans:
            self._banned_spans.add((candidate.video, candidate.span))
            self._banned[candidate.video] += 1

    def choose(self, number: int) -> list[Candidate]:
        """Choose clips, as evenly as it goes over scenarios, videos and quarters of length.

        Scenarios share the clips evenly; those that have fewer give all they have. Likewise the
        videos of a scenario. Of a video, clips of that quarter of lengths are taken that the
        scenario has least of.
        """
        scenarios: dict[str, list[int]] = {}
        for video in self._num_clips:
            scenarios.setdefault(self.videos[video].scenario, []).append(video)
        names = sorted(scenarios, key=lambda name: seeded_hash(self._seed, name))
        capacities = [sum(map(self._capacity, scenarios[name])) for name in names]
        chosen: list[Candidate] = []
        edges = self.quarter_edges()
        for name, share in zip(names, deal_out(number, capacities), strict=True):
            videos = self._by_quarters(scenarios[name], edges)
            shares = deal_out(share, [self._capacity(video) for video in videos])
            # Of quarters with equally many clips, another one is first in each scenario.
            first = seeded_hash(self._seed, name) % NUM_QUARTERS
            counts: Counter[int] = Counter()
            for video, num_clips in zip(videos, shares, strict=True):
                if num_clips:
                    chosen += self._pick(video, num_clips, counts, first, edges)
        return chosen

    def clip(self, candidate: Candidate, split: Literal["train", "val"]) -> Clip:
        """The clip of a candidate."""
        video = self.videos[candidate.video]
        return Clip(
            source=self.config.name,
            video_id=video.video_id,
            media=video.media,
            start_seconds=candidate.span[0],
            end_seconds=candidate.span[1],
            split=split,
            scenario=video.scenario,
            licence=video.licence,
            reference=video.references[candidate.part],
        )

    def quarter_edges(self) -> list[float]:
        """Lengths in seconds between the quarters; none where no length is known.

        Where clips are cut, they are quarters of the range of lengths; of whole videos they are the
        quartiles of those looked at.
        """
        if self.config.cut != "whole":
            low, high = self.config.min_seconds, self.config.max_seconds
            return [low + (high - low) * part / NUM_QUARTERS for part in range(1, NUM_QUARTERS)]
        lengths = [
            candidate.length_seconds
            for video in self._num_clips
            for candidate in self._candidates(video)
            if candidate.length_seconds is not None
        ]
        if not lengths:
            return []
        shares = [part / NUM_QUARTERS for part in range(1, NUM_QUARTERS)]
        # Edges are lengths that occur, and not means of two of them.
        return [float(edge) for edge in np.quantile(lengths, shares, method="inverted_cdf")]

    def _round_robin(self) -> list[int]:
        """The videos by hashes, of each scenario in turn."""
        ranks: Counter[str] = Counter()
        keys = []
        for video in sorted(range(len(self.videos)), key=self._hashes.__getitem__):
            scenario = self.videos[video].scenario
            # By rank within its scenario; scenarios of one rank in an order that the seed draws.
            keys.append((ranks[scenario], seeded_hash(self._seed, scenario), video))
            ranks[scenario] += 1
        return [video for *_, video in sorted(keys, key=lambda key: key[:2])]

    def _capacity(self, video: int) -> int:
        return self._num_clips[video] - self._banned[video]

    def _must_open(self, video: SourceVideo) -> bool:
        """Return whether the annotations do not say what the video's clips can be."""
        match self.config.cut:
            case "scenes":
                return True
            case "length":
                return video.parts[-1][1] is None
        return self.config.kind == "folder"

    def _look_at(self, number: int) -> int:
        """Number of the clips of a video; opens it if needed."""
        video = self.videos[number]
        if self._must_open(video):
            try:
                self._opened[number] = tuple(self._open(number, video))
                self._failures.record(1)
            except VideoReadError as error:
                name = printable(f"{self.config.name}:{video.video_id}")
                self._failures.record(1, [error.failure(name)])
                return 0
        elif self.config.cut == "length" and _is_too_long(video):
            name = printable(f"{self.config.name}:{video.video_id}")
            self._skipped.record(name, "a part of it is said to last more than a week")
            return 0
        num_clips = sum(1 for _ in self._candidates(number))
        if not num_clips:
            self._skipped.record(
                printable(f"{self.config.name}:{video.video_id}"),
                "no clip of it is as long as min_seconds",
            )
        return num_clips

    def _open(self, number: int, video: SourceVideo) -> Iterator[tuple[int, Stretch]]:
        """Stretches of a video that clips may be cut from, each with the number of its part.

        Raises:
            VideoReadError: It cannot be read, or no part of it is there.
        """
        index = self._reader.index(video.media)
        if index.duration_seconds > MAX_VIDEO_SECONDS:
            raise VideoReadError(
                video.media, "unsupported", "by its times it lasts more than a week"
            )
        self._lengths[number] = index.duration_seconds
        for part, span in enumerate(video.parts):
            start, end = index.span(*span)
            if self.config.cut != "scenes":
                yield part, stretch_of(start, end)
                continue
            # The cut lies somewhere between the two frames; what is between them is in no clip.
            for cut in find_scene_cuts(index, start, end, reader=self._reader):
                yield part, stretch_of(start, cut.last_before_seconds)
                start = cut.first_after_seconds
            yield part, stretch_of(start, end)

    def _candidates(self, number: int) -> Iterator[Candidate]:
        """All clips of a video that was looked at, in the order of time."""
        video, config = self.videos[number], self.config
        if config.cut == "whole":
            for part, span in enumerate(video.parts):
                end = self._lengths.get(number) if span[1] is None else span[1]
                length = None if end is None else end - (span[0] or 0.0)
                yield Candidate(number, span, part, length)
            return
        stretches = self._opened.get(number)
        # Not opened yet: the parts whose ends the annotations say.
        if stretches is None:
            known = [(start or 0.0, end) for start, end in video.parts]
            stretches = tuple(
                (part, stretch_of(start, end))
                for part, (start, end) in enumerate(known)
                if end is not None
            )
        # In whole milliseconds, so that cuts do not depend on rounding.
        for position, (part, stretch) in enumerate(stretches):
            seed = seeded_hash(self._hashes[number], position)
            shortest, longest = (
                round(min(seconds, MAX_VIDEO_SECONDS) * 1000)
                for seconds in (config.min_seconds, config.max_seconds)
            )
            for start, end in cut_stretches([stretch], shortest, longest, seed):
                span = (start / 1000, end / 1000)
                yield Candidate(number, span, part, (end - start) / 1000)

    def _by_quarters(self, videos: Sequence[int], edges: Sequence[float]) -> list[int]:
        """Videos by hashes; whole ones so that any first few have all quarters of lengths."""
        ordered = sorted(videos, key=self._hashes.__getitem__)
        if self.config.cut != "whole":
            return ordered
        # A whole video counts for the quarter of its first clip.
        ranks: Counter[int] = Counter()
        keys: dict[int, int] = {}
        for video in ordered:
            quarter = quarter_of(next(self._candidates(video)).length_seconds, edges)
            keys[video] = ranks[quarter]
            ranks[quarter] += 1
        return sorted(ordered, key=keys.__getitem__)

    def _pick(
        self, video: int, number: int, counts: Counter[int], first: int, edges: Sequence[float]
    ) -> Iterator[Candidate]:
        """Clips of one video, each of the quarter that ``counts`` has least of."""
        candidates = list(self._candidates(video))
        by_quarter: dict[int, list[Candidate]] = {}
        for position in random_order(len(candidates), self._hashes[video]):
            candidate = candidates[position]
            if (video, candidate.span) not in self._banned_spans:
                quarter = quarter_of(candidate.length_seconds, edges)
                by_quarter.setdefault(quarter, []).append(candidate)
        # At most as many as the video has that are not banned, so that a quarter is always left.
        for _ in range(number):
            quarter = min(by_quarter, key=lambda one: (counts[one], (one - first) % NUM_QUARTERS))
            counts[quarter] += 1
            yield by_quarter[quarter].pop()
            if not by_quarter[quarter]:
                del by_quarter[quarter]


def _is_too_long(video: SourceVideo) -> bool:
    return any((end or 0.0) - (start or 0.0) > MAX_VIDEO_SECONDS for start, end in video.parts)


def quarter_of(length_seconds: float | None, edges: Sequence[float]) -> int:
    """The quarter of a clip's length, from 0; ``UNKNOWN_LENGTH`` where that is not known."""
    if length_seconds is None:
        return UNKNOWN_LENGTH
    return sum(length_seconds > edge for edge in edges)
