"""Counts of an instruction set while it is written: what its card, report and page are made of."""

from collections import Counter
from typing import Any

from vidreason.teacher.bias import BiasCounts
from vidreason.teacher.bias_tables import ACCEPTED
from vidreason.teacher.journal_records import Ended


class SetSummary:
    """Counts of the rows of a set, and of the clips that have none.

    Attributes:
        num_rows: Rows by split.
        num_with: Rows by what they have: ``explanation``, ``prediction``, ``confidences``,
            ``times``, ``flags``.
        endings: Clips by how they ended: ``accepted``, or the cause of a rejection or failure.
        licences: Rows by licence tag, by source.
        first_created: Time of the earliest answer in the set; empty for none.
        last_created: Time of the latest one.
        media_dir: Folder that all linked videos lie in; empty for none.
        unlinked: Sources whose videos no folder was linked for, with the cause.
        bias: Words, lengths and confidences.
    """

    def __init__(self) -> None:
        self.num_rows: Counter[str] = Counter()
        self.num_with: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.licences: dict[str, Counter[str]] = {}
        self.first_created = ""
        self.last_created = ""
        self.media_dir = ""
        self.unlinked: dict[str, str] = {}
        self.bias = BiasCounts()

    def add_row(self, ended: Ended, row: dict[str, Any]) -> None:
        """Count a row of the set."""
        assert ended.verdict is not None
        clip = ended.clip
        self.num_rows[clip.split] += 1
        for name, field in (
            ("explanation", "causal_explanation"),
            ("prediction", "prediction"),
            ("confidences", "predictions"),
            ("times", "step_times"),
            ("flags", "flags"),
        ):
            self.num_with[name] += bool(row[field])
        self.licences.setdefault(clip.source, Counter())[clip.licence] += 1
        # ISO 8601 in UTC: the order of the texts is that of the times.
        self.first_created = min(self.first_created or ended.created, ended.created)
        self.last_created = max(self.last_created, ended.created)
        self.endings[ACCEPTED] += 1
        self.bias.add(ended, ACCEPTED, ended.verdict.draft)

    def add_unused(self, ended: Ended, cause: str) -> None:
        """Count a clip that has no row."""
        self.endings[cause] += 1
        self.bias.add(ended, cause, None)
