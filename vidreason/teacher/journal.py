"""Journal of a run in one SQLite file: its clips, the replies that were paid for, and their ends.

A clip is in exactly one state: ``pending``, ``answered`` (there is a reply that the gate has not
judged), ``accepted``, ``rejected`` or ``failed``. The file is also the cache of the replies
(:class:`vidreason.endpoints.cache.ReplyCache`): a teacher stores each by the SHA-256 of its request
when it comes, and the journal then says in one transaction that the clip is answered. A process
that is killed in between finds the reply when it asks again, and pays nothing. What a method has
recorded survives a kill, so that one loses at most the requests in flight.

The write-ahead log makes a record a single append (*measured*: 0.05 ms of CPU for 2 kB, against
0.3 to 0.5 ms with a rollback journal), and readers, such as a review, see the journal meanwhile.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from vidreason.endpoints.cache import ReplyCache, store_reply, stored_reply
from vidreason.endpoints.replies import ChatReply
from vidreason.secrets import printable, without_url_credentials
from vidreason.teacher.clip import Clip
from vidreason.teacher.journal_file import JournalFile, set_value, value_of
from vidreason.teacher.journal_records import (
    Answered,
    Counts,
    Ended,
    Record,
    State,
    differences,
    record_of_row,
)
from vidreason.teacher.verdict_rows import verdict_to_json
from vidreason.teacher.verdicts import Failure, Verdict

JOURNAL_FILE = "journal.sqlite"
"""Name in the run folder."""
_PAGE_ROWS = 500  # read at once, whatever the journal's size
_MAX_DETAIL_CHARS = 300
_FAILURES_TO_ASK_AGAIN = ("endpoint", "unreadable_video")
"""An endpoint recovers, and a disk is mounted again; a refused request stays one."""


class Journal:
    """The journal of one run; used from one thread, and closed, or in a ``with``.

    Args:
        path: The file; it and its folder are created if need be.
        identity: All that the replies depend on, such as teacher, prompt, sources and seed, as
            JSON. A journal that was begun with another one is refused. None to read any journal.

    Raises:
        ValueError: The file is something else or damaged, cannot be written, or was begun with
            another ``identity``.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._file = JournalFile(self.path)
        try:
            # It opens connections of its own: teachers store replies in their threads, and a
            # connection serves one thread only.
            self.cache = ReplyCache(self.path)
            if identity is not None:
                self._begin(identity)
            self._counts = self._count()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, clips: Iterable[Clip], *, is_whole: bool = True) -> int:
        """Add the clips that the journal does not have, after those that it has.

        Args:
            clips: Each once.
            is_whole: Whether they are the whole sample, so that no clip of the journal is missing.

        Returns:
            The number of new clips.

        Raises:
            ValueError: The journal has clips that are not among these, or has one otherwise.
        """
        num_given = num_new = 0
        num_before = self._counts.num_clips
        with self._file.transaction() as connection:
            for clip in clips:
                num_given += 1
                content = json.dumps(asdict(clip))
                added = connection.execute(
                    "INSERT OR IGNORE INTO clips (id, clip) VALUES (?, ?)", (clip.id, content)
                ).rowcount  # 0 for a clip that is there
                num_new += added
                if not added:
                    self._check_same(connection, clip.id, content)
            # Clips that are given and not new are those that the journal has: all of them should
            # be.
            if is_whole and num_given - num_new != num_before:
                raise ValueError(
                    f"{self.path} was begun with {num_before} clips, of which the sample of this "
                    f"configuration has {num_given - num_new}: the sources have changed, or "
                    "num_clips was lowered; set it back, or choose another run_dir"
                )
        self._counts.pending += num_new
        return num_new

    def ask_again(self) -> int:
        """Let the clips be asked about again that failed because of the endpoint or of their video.

        Returns:
            Their number.
        """
        marks = ", ".join("?" * len(_FAILURES_TO_ASK_AGAIN))
        with self._file.transaction() as connection:
            changed = connection.execute(
                "UPDATE clips SET state = 'pending', cause = '', detail = '', created = '' "
                f"WHERE state = 'failed' AND cause IN ({marks})",
                _FAILURES_TO_ASK_AGAIN,
            ).rowcount
        self._counts = self._count()
        return changed

    def spread_pending(self, count: int) -> list[Clip]:
        """Return at most ``count`` of the pending clips, spread evenly over all of them."""
        with self._file.errors():
            query = "SELECT number FROM clips WHERE state = 'pending' ORDER BY number"
            numbers = [row[0] for row in self._file.connection.execute(query)]
        step = max(len(numbers) // count, 1)
        chosen = numbers[::step][:count]
        # The first clip after the number before is the one of that number.
        return [next(self.records(number - 1)).clip for number in chosen]

    def add_judged(self, judged: Iterable[tuple[Clip, Verdict]]) -> None:
        """Add new clips together with the decisions on answers that no teacher gave."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._counted() as connection:
            for clip, verdict in judged:
                state: State = "rejected" if verdict.rejection else "accepted"
                connection.execute(
                    "INSERT INTO clips (id, clip, state, cause, detail, created, verdict) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(clip.id, json.dumps(asdict(clip)), state, verdict.rejection or ""),
                        *(_shown(verdict.detail), now, json.dumps(verdict_to_json(verdict))),
                    ),
                )
                self._counts.add(state, verdict.rejection or "", 1)

    def pending(self) -> Iterator[Clip]:
        """Give the clips that have no end and no reply yet, in order."""
        yield from (record.clip for record in self._records("state = 'pending'"))

    def record_reply(self, clip_id: str, key: str, reply: ChatReply) -> None:
        """Record that a clip has been answered.

        Args:
            clip_id: Its id.
            key: The request's; the reply is stored by it unless it is there.
            reply: The teacher's.
        """
        with self._counted() as connection:
            # Changes nothing where the teacher has stored it under its own name.
            store_reply(connection, "", key, reply)
            self._set(connection, clip_id, "answered", key=key)

    def record_failure(self, clip_id: str, failure: Failure, detail: str) -> None:
        """Record that a clip has no answer.

        Args:
            clip_id: Its id.
            failure: The cause.
            detail: In words; of others, so that it is made printable and cut here.
        """
        with self._counted() as connection:
            self._set(connection, clip_id, "failed", cause=failure, detail=_shown(detail))

    def record_verdict(self, clip_id: str, verdict: Verdict) -> None:
        """Record the gate's decision on a clip's answer; a later one replaces it."""
        self.record_verdicts([(clip_id, verdict)])

    def record_verdicts(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Record several decisions in one transaction.

        Raises:
            ValueError: A clip has no reply.
        """
        with self._counted() as connection:
            for clip_id, verdict in verdicts:
                state: State = "rejected" if verdict.rejection else "accepted"
                before = self._state(connection, clip_id)
                if before[0] == "pending":
                    raise ValueError(f"{self.path}: clip {clip_id} has no reply to judge")
                connection.execute(
                    "UPDATE clips SET state = ?, cause = ?, detail = ?, verdict = ? WHERE id = ?",
                    (
                        *(state, verdict.rejection or "", _shown(verdict.detail)),
                        *(json.dumps(verdict_to_json(verdict)), clip_id),
                    ),
                )
                self._counts.add(*before, -1)
                self._counts.add(state, verdict.rejection or "", 1)

    def judge_anew(self, judged_by: str) -> int:
        """Forget the verdicts of another gate; replies are kept.

        Args:
            judged_by: Names the gate, and everything else that can change its decisions.

        Returns:
            The number of verdicts that were forgotten.
        """
        with self._file.transaction() as connection:
            former = value_of(connection, "judged_by")
            if former == judged_by:
                return 0
            forgotten = connection.execute(
                "UPDATE clips SET state = 'answered', cause = '', detail = '', verdict = NULL "
                "WHERE verdict IS NOT NULL"
            ).rowcount
            set_value(connection, "judged_by", judged_by)
        self._counts = self._count()
        return forgotten

    def note(self, name: str, value: str) -> None:
        """Write down a fact about the run, such as its estimated cost."""
        with self._file.transaction() as connection:
            set_value(connection, f"note {name}", value)

    def noted(self, name: str) -> str:
        """Return what :meth:`note` has written down; empty for nothing."""
        with self._file.errors():
            return value_of(self._file.connection, f"note {name}") or ""

    def reply(self, key: str) -> ChatReply:
        """Return the stored reply of a key.

        Raises:
            ValueError: There is none: the file is damaged.
        """
        with self._file.errors():
            stored = stored_reply(self._file.connection, key)
        if stored is None:
            raise ValueError(
                f"{self.path} is damaged: it has no reply {key!r:.80}; move it away and start again"
            )
        return stored

    def answered(self) -> Iterator[Answered]:
        """Give every clip that has a reply, judged or not, in order; one at a time in memory."""
        for record in self._records("key != ''"):
            yield Answered(record.clip, record.key, self.reply(record.key), record.created)

    def ended(self) -> Iterator[Ended]:
        """Give every clip that has ended, in order; one at a time in memory."""
        for record in self._records("state IN ('accepted', 'rejected', 'failed')"):
            failure: Any = record.cause if record.state == "failed" else None
            yield Ended(record.clip, record.verdict, failure, record.detail, record.created)

    def records(self, after: int = 0) -> Iterator[Record]:
        """Give every clip whose number is above ``after``, in order."""
        yield from self._records("1", after=after)

    def counts(self) -> Counts:
        """Return the numbers of clips by state; a copy."""
        counts = self._counts
        return Counts(
            pending=counts.pending,
            answered=counts.answered,
            accepted=counts.accepted,
            rejected=+counts.rejected,  # a copy, without counts that went back to 0
            failed=+counts.failed,
        )

    @contextmanager
    def _counted(self) -> Iterator[sqlite3.Connection]:
        """A transaction whose counts are taken back with it where it fails."""
        before = self.counts()
        try:
            with self._file.transaction() as connection:
                yield connection
        except BaseException:
            self._counts = before
            raise

    def _begin(self, identity: Mapping[str, Any]) -> None:
        given = json.dumps(identity, sort_keys=True)
        with self._file.transaction() as connection:
            former = value_of(connection, "identity")
            if former is None:
                set_value(connection, "identity", given)
                return
        if former != given:
            changed = differences(json.loads(former), json.loads(given))
            raise ValueError(
                f"{self.path} was begun with another configuration: {changed}; set it back, or "
                "choose another run_dir"
            )

    def _check_same(self, connection: sqlite3.Connection, clip_id: str, content: str) -> None:
        query = "SELECT clip FROM clips WHERE id = ?"
        former = connection.execute(query, (clip_id,)).fetchone()[0]
        if former != content:
            changed = differences(json.loads(former), json.loads(content))
            raise ValueError(
                f"{self.path} has clip {clip_id} otherwise: {changed}; set the configuration back, "
                "or choose another run_dir"
            )

    def _set(
        self,
        connection: sqlite3.Connection,
        clip_id: str,
        state: State,
        *,
        cause: str = "",
        detail: str = "",
        key: str = "",
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = self._state(connection, clip_id)
        connection.execute(
            "UPDATE clips SET state = ?, cause = ?, detail = ?, key = ?, created = ?, "
            "verdict = NULL WHERE id = ?",
            (state, cause, detail, key, now, clip_id),
        )
        self._counts.add(*before, -1)
        self._counts.add(state, cause, 1)

    def _state(self, connection: sqlite3.Connection, clip_id: str) -> tuple[str, str]:
        query = "SELECT state, cause FROM clips WHERE id = ?"
        row = connection.execute(query, (clip_id,)).fetchone()
        if row is None:
            raise ValueError(f"{self.path} has no clip {clip_id}")
        return row[0], row[1]

    def _records(self, where: str, values: Iterable[str] = (), after: int = 0) -> Iterator[Record]:
        """Give the clips of a condition; no cursor stays open, as the caller may write meanwhile.

        Pages are of numbers only: a row may have megabytes.
        """
        page = f"SELECT number FROM clips WHERE number > ? AND ({where}) ORDER BY number LIMIT ?"
        columns = "number, clip, state, cause, detail, key, created, verdict"
        one = f"SELECT {columns} FROM clips WHERE number = ? AND ({where})"
        values = tuple(values)
        while True:
            with self._file.errors():
                numbers = self._file.connection.execute(
                    page, (after, *values, _PAGE_ROWS)
                ).fetchall()
            # The next page begins after the last number of this one.
            for (after,) in numbers:
                with self._file.errors():
                    row = self._file.connection.execute(one, (after, *values)).fetchone()
                if row is not None:  # the caller may have changed its state by now
                    yield record_of_row(row)
            if len(numbers) < _PAGE_ROWS:
                return

    def _count(self) -> Counts:
        counts = Counts()
        query = "SELECT state, cause, COUNT(*) FROM clips GROUP BY state, cause"
        with self._file.errors(), closing(self._file.connection.execute(query)) as rows:
            for row in rows:
                counts.add(*row)
        return counts


def _shown(detail: str) -> str:
    """Return a text that others have a hand in as it may be stored and shown."""
    return printable(without_url_credentials(detail), _MAX_DETAIL_CHARS)
