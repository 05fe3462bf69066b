"""Judging of answers in the order of the journal, while others are still on their way.

A gate compares an answer with those before it, so its decisions depend on the order. Clips are
therefore judged in the journal's order, whenever their replies came: judging waits at a clip that
has no end yet. Where it went past one, at the end of a run that left it out, and a later start gets
its reply, the clips after it are judged again, without asking again.
"""

import time
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Protocol

from vidreason.endpoints.replies import ChatReply
from vidreason.teacher.clip import Clip
from vidreason.teacher.journal import Journal
from vidreason.teacher.journal_records import Record
from vidreason.teacher.verdicts import Verdict
from vidreason.video.failures import VideoReadError

_AT_ONCE = 64
"""Verdicts of one transaction."""


class AnswerGate(Protocol):
    """Decides whether an answer becomes a row; see :mod:`vidreason.teacher.gate`."""

    def judge(self, clip: Clip, reply: ChatReply) -> Verdict:
        """Judge a clip's reply, and remember what later answers are compared with.

        Raises:
            VideoReadError: The verifier cannot read the clip's video.
        """
        ...

    def remember(self, clip: Clip, verdict: Verdict) -> None:
        """Restore the state after a verdict that was made earlier."""
        ...


class Judging:
    """The gate's way through a journal.

    Args:
        journal: The journal.
        gate: A new one, which has judged nothing.
    """

    def __init__(self, journal: Journal, gate: AnswerGate) -> None:
        self._journal = journal
        self._gate = gate
        self._number = 0
        self._is_anew = False
        """True if a clip was judged whose turn has come only now: later verdicts are made again."""

    def advance(self, seconds: float = 0.2) -> int:
        """Judge the next clips up to the first that is still to be asked about.

        Args:
            seconds: No further clip is begun after this time, so that the caller can do other work
                in between, whatever a verifier takes.

        Returns:
            The number of clips that were passed.
        """
        end = time.monotonic() + seconds
        # takewhile loses the record at which the time is over; the next call reads it again, as
        # only passed ones move the number.
        in_time = takewhile(lambda _: time.monotonic() < end, self._until_pending())
        return self._pass(islice(in_time, _AT_ONCE))

    def finish(self) -> None:
        """Judge all clips that have a reply; those without one are left out."""
        while self._pass(islice(self._journal.records(self._number), _AT_ONCE)):
            pass

    def _until_pending(self) -> Iterator[Record]:
        for record in self._journal.records(self._number):
            if record.state == "pending":
                return
            yield record

    def _pass(self, records: Iterator[Record]) -> int:
        verdicts = []
        num_passed = 0
        for record in records:
            num_passed += 1
            self._number = record.number
            if not record.key:  # it failed before there was a reply
                continue
            if record.verdict is not None and not self._is_anew:
                self._gate.remember(record.clip, record.verdict)
                continue
            # Later verdicts may depend on this one.
            self._is_anew = True
            reply = self._journal.reply(record.key)
            try:
                verdicts.append((record.clip.id, self._gate.judge(record.clip, reply)))
            except VideoReadError as error:
                # It says nothing about the answer, which the next start finds again.
                self._journal.record_failure(record.clip.id, "unreadable_video", str(error))
        if verdicts:
            self._journal.record_verdicts(verdicts)
        return num_passed
