"""A journal's clips as data: how each ended, what was answered, and how many there are of each."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from vidreason.endpoints.replies import ChatReply
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip
from vidreason.teacher.verdict_rows import verdict_from_json
from vidreason.teacher.verdicts import Failure, Verdict

State = Literal["pending", "answered", "accepted", "rejected", "failed"]


class Answered(NamedTuple):
    """A clip with its reply."""

    clip: Clip
    key: str
    reply: ChatReply
    created: str
    """When the reply was recorded: ISO 8601, UTC."""


class Ended(NamedTuple):
    """The end of a clip: a verdict or a failure, never both."""

    clip: Clip
    verdict: Verdict | None
    failure: Failure | None
    detail: str
    created: str
    """When its reply, or the failure, was recorded: ISO 8601, UTC."""


class Record(NamedTuple):
    """A clip as the journal has it, without its reply."""

    number: int
    """Position in the journal, from 1."""
    clip: Clip
    state: State
    cause: str
    """Cause of a rejection or a failure; empty otherwise."""
    detail: str
    key: str
    """Key of its reply; empty for none."""
    created: str
    verdict: Verdict | None


@dataclass(kw_only=True)
class Counts:
    """Numbers of clips by their state, and by cause where they have one."""

    pending: int = 0
    answered: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def num_clips(self) -> int:
        """All of them."""
        return self.num_ended + self.pending + self.answered

    @property
    def num_ended(self) -> int:
        """Clips that are accepted, rejected or failed."""
        return self.accepted + self.rejected.total() + self.failed.total()

    def add(self, state: str, cause: str, number: int) -> None:
        """Count ``number`` more clips in a state."""
        # Counts by cause; of other states there is a number alone.
        if state in ("rejected", "failed"):
            getattr(self, state)[cause] += number
        else:
            setattr(self, state, getattr(self, state) + number)


def record_of_row(row: Sequence[Any]) -> Record:
    """Return the record of a row of the journal's table, in the order of the record's fields."""
    number, clip, state, cause, detail, key, created, verdict = row
    decided = None if verdict is None else verdict_from_json(json.loads(verdict))
    return Record(number, Clip(**json.loads(clip)), state, cause, detail, key, created, decided)


def differences(former: Any, given: Any, where: str = "") -> str:  # noqa: ANN401 - JSON
    """Name the first values that differ between two JSON values, in words."""
    if isinstance(former, dict) and isinstance(given, dict):
        names = [name for name in former | given if former.get(name) != given.get(name)]
        parts = [
            differences(former.get(name), given.get(name), f"{where}.{name}" if where else name)
            for name in names[:3]  # enough for a message
        ]
        return ", ".join(parts)
    return f"{where} was {printable(repr(former), 80)} and is {printable(repr(given), 80)}"
