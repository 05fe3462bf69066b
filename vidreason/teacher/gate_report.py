"""The gate's report: how many answers each step rejected, why, and examples of each cause."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

from vidreason.evaluation.tables import Table
from vidreason.secrets import printable
from vidreason.teacher.journal_records import Ended
from vidreason.teacher.verdicts import Failure, Rejection

ACCEPTED = "accepted"
ENDS: tuple[str, ...] = (ACCEPTED, *get_args(Rejection), *get_args(Failure))
"""Ends of a clip, in the order of the gate's steps."""

_NUM_EXAMPLES = 10
_MAX_CAUSES = 50
"""Different causes of one end that are counted apart; details are the gate's, but of a run that
another version may have judged."""
_OTHER = "other"
_MAX_DETAIL_CHARS = 200
_MAX_CAUSE_CHARS = 40


class Example(NamedTuple):
    """One clip of an end, printable."""

    clip_id: str
    detail: str


class GateReport:
    """Counts of the ends of clips by source and cause, with the first examples of each.

    Clips pass by; none is held but the examples.
    """

    def __init__(self, ended: Iterable[Ended] = ()) -> None:
        self._by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_cause: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._flags: Counter[str] = Counter()
        self._examples: defaultdict[str, list[Example]] = defaultdict(list)
        for clip in ended:
            self.add(clip)

    def add(self, ended: Ended) -> None:
        """Count a clip."""
        verdict = ended.verdict
        end = ended.failure or (verdict.rejection if verdict else None) or ACCEPTED
        detail = ended.detail if ended.failure or verdict is None else verdict.detail
        self._by_source[ended.clip.source][end] += 1
        if end != ACCEPTED:
            self._count_cause(end, detail)
            if len(self._examples[end]) < _NUM_EXAMPLES:
                shown = printable(detail, _MAX_DETAIL_CHARS)
                self._examples[end].append(Example(ended.clip.id, shown))
        elif verdict is not None:
            kinds = {" ".join(flag.split()[:2]) for flag in verdict.flags}
            self._flags.update(printable(kind, _MAX_CAUSE_CHARS) for kind in sorted(kinds))

    def tables(self) -> list[Table]:
        """Ends by source, causes within each end, remarks on accepted answers, and examples."""
        sources = sorted(self._by_source)
        totals = self._totals()
        num_clips = max(totals.total(), 1)
        ends = [end for end in ENDS if totals[end]]
        rows = [
            (
                end,
                str(totals[end]),
                f"{100 * totals[end] / num_clips:.1f}",
                *(str(self._by_source[source][end]) for source in sources),
            )
            for end in ends
        ]
        everything = (str(self._by_source[source].total()) for source in sources)
        rows.append(("clips", str(totals.total()), "100.0" if ends else "-", *everything))
        tables = [Table("Clips by their end", ("end", "all", "%", *sources), tuple(rows))]
        causes = tuple(
            (f"{end}: {cause}", str(count))
            for end in ends
            for cause, count in sorted(self._by_cause[end].items(), key=lambda item: -item[1])
        )
        if causes:
            tables.append(Table("Causes", ("cause", "clips"), causes))
        if self._flags:
            flags = tuple((flag, str(count)) for flag, count in sorted(self._flags.items()))
            title = "Remarks on accepted answers"
            tables.append(Table(title, ("remark", "answers"), flags))
        tables += [
            Table(f"Examples of {end}", ("clip", "detail"), tuple(self._examples[end]))
            for end in ends
            if self._examples[end]
        ]
        return tables

    def to_json(self) -> dict[str, Any]:
        """The same for JSON; ends that no clip has are left out."""
        totals = self._totals()
        return {
            "num_clips": totals.total(),
            "ends": {end: totals[end] for end in ENDS if totals[end]},
            "ends_by_source": {
                source: {end: counts[end] for end in ENDS if counts[end]}
                for source, counts in sorted(self._by_source.items())
            },
            "causes": {end: dict(self._by_cause[end]) for end in ENDS if self._by_cause[end]},
            "flags": dict(sorted(self._flags.items())),
            "examples": {
                end: [example._asdict() for example in self._examples[end]]
                for end in ENDS
                if self._examples[end]
            },
        }

    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for counts in self._by_source.values():
            totals.update(counts)
        return totals

    def _count_cause(self, end: str, detail: str) -> None:
        """Count what a detail says before its colon."""
        kind, colon, _ = detail.partition(":")
        cause = printable(kind, _MAX_CAUSE_CHARS) if colon and kind.strip() else _OTHER
        counts = self._by_cause[end]
        if cause not in counts and len(counts) >= _MAX_CAUSES:
            cause = _OTHER
        counts[cause] += 1
