"""The health of a corpus: what its files hold, which videos are there, what is left out and why."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from data_modules.corpora import CorpusConfig
from data_modules.id_hashes import UNIQUE_IDS, IdHashes, id_hash
from data_modules.official_counts import coverage
from data_modules.prompt_lengths import PromptLimit
from data_modules.readers import read_corpus, reader_named
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.video.failures import VideoReadError, read_error
from vidreason.video.media import is_remote, media_size, parse_member
from vidreason.video.reader import VideoReader

PRESENT = ("there", "remote")
PERCENTILES = (1, 25, 50, 75, 99)
_REMEMBERED_FILES = 2**17  # states of the last ones


@dataclass(kw_only=True)
class CorpusHealth:
    """The report on one corpus. Percentiles are those of ``PERCENTILES``."""

    corpus: str
    root: str
    split: str
    role: str
    """``train``, ``validation`` or ``benchmark``: the list it stands in."""
    licence: str
    error: str = ""
    """Why the corpus cannot be used; the numbers are then those of what was read before."""
    num_examples: int = 0
    num_videos: int = 0
    """Different ones, by path, URL or member."""
    num_without_reference: int = 0
    """Examples whose answer is hidden."""
    num_duplicate_ids: int = 0
    """Examples whose id came before."""
    repeated_id: str = ""
    """One of these ids; empty if there is none."""
    num_rows: int = 0
    """Rows of its files, with those that were left out."""
    official_rows: int | None = None
    """Rows of the released files, where they are known and these are meant to be all of them."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows that the reader left out, by cause."""
    row_remarks: Counter[str] = field(default_factory=Counter)
    """Rows that were read but for something in them, by what that is."""
    malformed: list[str] = field(default_factory=list)
    """Faults of the first malformed rows."""
    media: Counter[str] = field(default_factory=Counter)
    """Examples whose video is ``there``, ``missing``, ``empty`` or ``unreachable``, or ``remote``
    and not looked for; its content is not looked at."""
    right_options: Counter[int] = field(default_factory=Counter)
    """Questions with options, by the index of the right one."""
    question_words: list[float] = field(default_factory=list)
    answer_words: list[float] = field(default_factory=list)
    """Percentiles of the words of a response: an answer or caption."""
    license_tags: Counter[str] = field(default_factory=Counter)
    """Tags of corpora whose rows have one."""
    num_probed: int = 0
    """Videos of a random sample that were opened and indexed, of those that are there."""
    num_decoded: int = 0
    """Number of these that were decoded from first to last frame."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Probed videos that cannot be read, by cause."""
    unreadable_examples: list[str] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    """Probed videos whose times are not all the file's own, by
    :data:`vidreason.video.clock.RemarkKind`."""
    duration_seconds: list[float] = field(default_factory=list)
    """Percentiles over the probed videos."""
    resolutions: dict[str, int] = field(default_factory=dict)
    """Probed videos of each size, such as ``640x360``; the ten most frequent."""

    @property
    def name(self) -> str:
        """Role, corpus and split."""
        return f"{self.role} {self.corpus}:{self.split}"

    @property
    def num_skipped(self) -> int:
        """Rows left out."""
        return sum(self.skipped.values())

    @property
    def absent_fraction(self) -> float:
        """Share of the examples whose video is not there, or not reachable, or empty."""
        absent = sum(n for state, n in self.media.items() if state not in PRESENT)
        return absent / max(self.num_examples, 1)


class VideoSample:
    """A random sample of the different videos (or spans of videos) of examples that pass by.

    The same videos give the same sample, in whatever order: it holds those whose names have the
    smallest hashes.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[str, Example] = {}

    def add(self, example: Example) -> None:
        """Take ``example`` into the sample, or not."""
        name = f"{example.media}\n{example.start_seconds}\n{example.end_seconds}"
        self._kept.setdefault(name, example)
        # Sorted only once that many have come, so that a sort is shared by many examples.
        if len(self._kept) > 2 * self.size:
            self._drop()

    def __iter__(self) -> Iterator[Example]:
        self._drop()
        return iter(self._kept.values())

    def _drop(self) -> None:
        """Keep the smallest hashes, in their order."""
        names = sorted(self._kept, key=id_hash)[: self.size]
        self._kept = {name: self._kept[name] for name in names}


class CorpusExamination:
    """Reads one corpus once and collects its :class:`CorpusHealth`; memory stays flat.

    Args:
        config: The corpus.
        role: The list of the data that it stands in.
        folder: For scratch files and the rows left out, ``skipped-<role>-<corpus>-<split>.jsonl``.
        num_sampled: Videos in the sample, of which :meth:`probe` opens the first.
        max_malformed_fraction: Share of the corpus' rows that may be malformed.
        limit: Which prompts are too long to train on; None to leave that out.
    """

    def __init__(
        self,
        config: CorpusConfig,
        role: str,
        folder: Path,
        num_sampled: int,
        max_malformed_fraction: float,
        limit: PromptLimit | None = None,
    ) -> None:
        self.config = config
        self._limit = limit
        self.max_malformed_fraction = max_malformed_fraction
        self.health = CorpusHealth(
            corpus=config.corpus,
            root=config.root,
            split=config.split,
            role=role,
            licence=reader_named(config.reader).licence,
        )
        self.sample = VideoSample(num_sampled)
        stem = f"{role}-{config.corpus}-{config.split}".replace("/", "_")
        self._folder, self._stem = folder, stem
        self._file_state = lru_cache(_REMEMBERED_FILES)(_file_state)

    def examples(self) -> Iterator[Example]:
        """Yield the corpus' examples while they are counted; a malformed file ends them.

        The error is kept in the report, and not raised.
        """
        config, health = self.config, self.health
        skipped = SkippedRows(
            self._folder / f"skipped-{self._stem}.jsonl",
            max_malformed_fraction=self.max_malformed_fraction,
        )
        # The counters themselves: they grow while the rows are read.
        health.skipped, health.row_remarks = skipped.causes, skipped.remarks
        health.malformed = skipped.malformed
        # Hashes on the disk: a corpus of 100 million rows has no room for its ids in memory.
        ids = IdHashes(self._folder / f"ids-{self._stem}.uint64")
        media = IdHashes(self._folder / f"media-{self._stem}.uint64")
        question_words: Counter[int] = Counter()
        answer_words: Counter[int] = Counter()
        try:
            for example in read_corpus(config, skipped):
                if self._limit is not None and self._limit.fitted(example, skipped) is None:
                    continue
                health.num_examples += 1
                health.num_without_reference += not example.response
                if example.answer_index is not None:
                    health.right_options[example.answer_index] += 1
                ids.add([id_hash(example.id)])
                media.add([id_hash(example.media)])
                health.media[self._state(example.media)] += 1
                question_words[len(example.meta.get("question", example.prompt).split())] += 1
                if example.response:
                    answer_words[len(example.response.split())] += 1
                if "license_tag" in example.meta:
                    health.license_tags[example.meta["license_tag"]] += 1
                self.sample.add(example)
                yield example
            # The share of malformed rows is known at the end only.
            skipped.check_malformed(self.max_malformed_fraction)
        except ValueError as error:
            health.error = str(error)
        health.num_rows = skipped.num_rows
        covered = coverage(config, skipped)
        health.official_rows = covered.num_questions if covered.is_official else None
        health.question_words = percentiles(question_words)
        health.answer_words = percentiles(answer_words)
        num_ids, repeated = ids.distinct()
        health.num_duplicate_ids = health.num_examples - num_ids
        if repeated is not None:
            # Read again: ids are not kept.
            again = (example.id for example in read_corpus(config, SkippedRows.uncounted()))
            health.repeated_id = next((one for one in again if id_hash(one) == repeated), "")
        health.num_videos, _ = media.distinct()

    def probe(self, num_probed: int, num_decoded: int, reader: VideoReader) -> None:
        """Open and index the first sampled videos, and decode the first ``num_decoded`` of them.

        Videos that are not there are counted under ``media`` already.
        """
        health = self.health
        durations = []
        resolutions: Counter[str] = Counter()
        for example in islice(self.sample, num_probed):
            if self._state(example.media) not in PRESENT:
                continue
            health.num_probed += 1
            try:
                index = reader.index(example.media)
                index.span(example.start_seconds)  # the video may end before
                # Decoding every frame finds damage that the index of the packets does not show.
                if health.num_decoded < num_decoded:
                    health.num_decoded += 1
                    reader.check_frames(example.media)
            except VideoReadError as error:
                health.unreadable[error.cause] += 1
                if len(health.unreadable_examples) < 10:
                    health.unreadable_examples.append(f"{example.id}: {error}")
                continue
            health.remarks.update(remark.kind for remark in index.remarks)
            durations.append(index.duration_seconds)
            resolutions[f"{index.width}x{index.height}"] += 1
        health.resolutions = dict(resolutions.most_common(10))
        if durations:
            health.duration_seconds = [float(v) for v in np.percentile(durations, PERCENTILES)]

    def _state(self, media: str) -> str:
        """``there``, or why it is not; remembered for the files asked about last.

        Of a shard's member the shard is looked at. A URL is not: over a network it would take a
        request an example, and the probed videos will tell.
        """
        member = parse_member(media)
        media = media if member is None else member.archive
        return "remote" if is_remote(media) else self._file_state(media)


def _file_state(path: str) -> str:
    try:
        return "there" if media_size(path) > 0 else "empty"
    except OSError as error:
        return read_error(path, error).cause


def percentiles(counts: Counter[int]) -> list[float]:
    """``PERCENTILES`` of numbers given with how often each occurs; empty without numbers."""
    if not counts:
        return []
    values = np.array(sorted(counts))
    # The value at rank r is the first whose cumulative count reaches r.
    cumulative = np.cumsum([counts[int(value)] for value in values])
    ranks = np.array(PERCENTILES) / 100 * cumulative[-1]
    return [float(values[index]) for index in np.searchsorted(cumulative, ranks)]


def problems(
    corpora: Iterable[CorpusHealth], max_unreadable_fraction: float, max_skipped_fraction: float
) -> list[str]:
    """The problems beyond the thresholds, a line each; none for healthy corpora."""
    lines = []
    for health in corpora:
        # Rows first, then their media, then the numbers of both.
        if health.error:
            lines.append(f"{health.name}: {health.error}")
        if health.num_without_reference == health.num_examples > 0 and health.role != "benchmark":
            lines.append(f"{health.name}: no example has a response to learn from: it is hidden")
        if health.num_duplicate_ids:
            lines.append(
                f"{health.name}: {health.num_duplicate_ids} rows have an id that another one has, "
                f"such as {health.repeated_id!r}: {UNIQUE_IDS}"
            )
        if health.absent_fraction > max_unreadable_fraction and health.num_examples:
            absent = {cause: n for cause, n in health.media.items() if cause not in PRESENT}
            lines.append(
                f"{health.name}: {health.absent_fraction:.1%} of the examples have no video "
                f"({absent}); data.max_unreadable_fraction is {max_unreadable_fraction}"
            )
        # Of a sample of the videos that are there, which were decoded.
        num_unreadable = sum(health.unreadable.values())
        if num_unreadable > max_unreadable_fraction * health.num_probed:
            lines.append(
                f"{health.name}: {num_unreadable} of {health.num_probed} probed videos cannot be "
                f"read ({dict(health.unreadable)}); data.max_unreadable_fraction is "
                f"{max_unreadable_fraction}"
            )
        if health.official_rows not in (None, health.num_rows) and not health.error:
            lines.append(
                f"{health.name}: {health.num_rows:,} rows, but the released split has "
                f"{health.official_rows:,}: fetch its files again, or call them by another split"
            )
        num_rows = health.num_examples + health.num_skipped
        if health.num_skipped > max_skipped_fraction * num_rows:
            lines.append(
                f"{health.name}: {health.num_skipped} rows were left out, of "
                f"{health.num_examples} examples and them ({dict(health.skipped)}); "
                f"data_check.max_skipped_fraction is {max_skipped_fraction}"
            )
    return lines
