"""The report on a sample of clips: what is in it, and what was left out and why."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_modules.clip_stock import UNKNOWN_LENGTH, quarter_of
from data_modules.excluded_clips import ExclusionReport
from vidreason.evaluation.tables import Table
from vidreason.teacher.clip import Clip

NUM_SCENARIOS_SHOWN = 20


@dataclass(kw_only=True)
class SourceReport:
    """Clips of one source, and all that gave none."""

    name: str
    kind: str
    num_requested: int
    """Clips that are its share by weight."""
    num_clips: int = 0
    num_validation: int = 0
    """Clips of the split ``val`` among them."""
    num_videos: int = 0
    """Videos that the clips are of."""
    num_videos_known: int = 0
    """Videos that clips may be of; of a large corpus, those that could be needed."""
    licences: dict[str, int] = field(default_factory=dict)
    """Clips by licence tag."""
    num_with_reference: int = 0
    """Clips of whose span annotations say something."""
    scenarios: dict[str, int] = field(default_factory=dict)
    """Clips by scenario, the most frequent first."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Clips by quarter of lengths."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows, files and videos that give no clip, by cause."""
    first_left_out: dict[str, list[str]] = field(default_factory=dict)
    """The first ones of each cause."""
    malformed: list[str] = field(default_factory=list)
    """The first malformed rows."""
    num_opened: int = 0
    """Videos that were opened."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Opened videos that cannot be read, by cause."""
    remarks: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class SampleReport:
    """Contents of a sample, and what is not in it."""

    num_requested: int
    num_clips: int
    sources: list[SourceReport]
    exclusion: ExclusionReport

    def to_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        excluded = self.exclusion
        return {
            "num_requested": self.num_requested,
            "num_clips": self.num_clips,
            "sources": [vars(source) for source in self.sources],
            "evaluation_sets": [vars(one) for one in excluded.evaluation_sets],
            "excluded": [
                {"source": source, "cause": cause, "number": number}
                for (source, cause), number in sorted(excluded.counts.items())
            ],
            "first_excluded": [one._asdict() for one in excluded.first],
        }

    def tables(self) -> list[Table]:
        """Tables for a page or a terminal; those without rows are left out."""
        tables = [
            self._sources(),
            _counts("Clips by scenario", "scenario", self.sources, "scenarios", "(none)"),
            _counts("Clips by length", "length", self.sources, "lengths"),
            _counts("Clips by licence", "licence", self.sources, "licences"),
            _counts("Left out", "cause", self.sources, "left_out"),
            _counts("Videos that cannot be read", "cause", self.sources, "unreadable"),
            *self._exclusion(),
            Table(
                "Remarks",
                ("source", "remark"),
                tuple((one.name, remark) for one in self.sources for remark in one.remarks),
            ),
        ]
        return [table for table in tables if table.rows]

    def _sources(self) -> Table:
        missing = self.num_requested - self.num_clips
        short = f", {missing:,} fewer than requested: the sources have no others" if missing else ""
        header = ("source", "clips", "its share", "of val", "of videos", "videos known", "told of")
        rows = tuple(
            (
                one.name,
                *(
                    f"{number:,}"
                    for number in (
                        one.num_clips,
                        one.num_requested,
                        one.num_validation,
                        one.num_videos,
                        one.num_videos_known,
                        one.num_with_reference,
                    )
                ),
            )
            for one in self.sources
        )
        return Table(f"{self.num_clips:,} clips{short}", header, rows)

    def _exclusion(self) -> list[Table]:
        excluded = self.exclusion
        sets = tuple(
            (
                one.name,
                f"{one.num_examples:,}",
                f"{one.num_left_out:,}",
                f"{one.num_videos_hashed:,}",
                f"{one.num_not_hashed:,}",
            )
            for one in excluded.evaluation_sets
        )
        counts = tuple(
            (source, cause, f"{number:,}")
            for (source, cause), number in sorted(excluded.counts.items())
        )
        first = tuple(
            (one.source, one.cause, one.name, one.evaluation_id, one.detail)
            for one in excluded.first
        )
        header = ("evaluation set", "examples", "left out", "videos hashed", "not readable")
        return [
            Table("Evaluation sets that are excluded", header, sets),
            Table("Excluded", ("source", "because of", "number"), counts),
            Table(
                "The first that are excluded",
                ("source", "because of", "video or clip", "evaluation example", "detail"),
                first,
            ),
        ]


def clip_counts(
    clips: Sequence[tuple[Clip, float | None]], edges: Sequence[float]
) -> dict[str, Any]:
    """Fields of a :class:`SourceReport` that count its clips.

    Args:
        clips: Each with its length in seconds, or None.
        edges: Lengths between the quarters.
    """
    quarters = Counter(quarter_of(length, edges) for _, length in clips)
    return {
        "num_clips": len(clips),
        "num_validation": sum(clip.split == "val" for clip, _ in clips),
        "num_videos": len({clip.video_id for clip, _ in clips}),
        "licences": _frequent(clip.licence for clip, _ in clips),
        "num_with_reference": sum(bool(clip.reference) for clip, _ in clips),
        "scenarios": _frequent(clip.scenario for clip, _ in clips),
        "lengths": {_length_name(one, edges): quarters[one] for one in sorted(quarters)},
    }


def _frequent(names: Iterable[str]) -> dict[str, int]:
    """Counts, the largest first, and of equal ones in alphabetical order."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _length_name(quarter: int, edges: Sequence[float]) -> str:
    if quarter == UNKNOWN_LENGTH:
        return "not known"
    if quarter == len(edges):
        return f"above {edges[-1]:.1f} s"
    low = f"above {edges[quarter - 1]:.1f} and " if quarter else ""
    return f"{low}up to {edges[quarter]:.1f} s"


def _counts(
    title: str, header: str, sources: Sequence[SourceReport], name: str, empty: str = ""
) -> Table:
    """Counts of all sources; of each the first ``NUM_SCENARIOS_SHOWN``, and the sum of the rest."""
    rows = []
    for source in sources:
        counts = list(getattr(source, name).items())
        shown, rest = counts[:NUM_SCENARIOS_SHOWN], counts[NUM_SCENARIOS_SHOWN:]
        rows += [(source.name, text or empty, f"{number:,}") for text, number in shown]
        if rest:
            total = sum(number for _, number in rest)
            rows.append((source.name, f"{len(rest):,} more", f"{total:,}"))
    return Table(title, ("source", header, "number"), tuple(rows))
