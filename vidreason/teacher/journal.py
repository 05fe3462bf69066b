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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from vidreason.endpoints.cache import ReplyCache, store_reply, stored_reply
from vidreason.endpoints.replies import ChatReply
from vidreason.secrets import printable, without_url_credentials
from vidreason.teacher.clip import Clip
from vidreason.teacher.verdict_rows import verdict_from_json, verdict_to_json
from vidreason.teacher.verdicts import Failure, Verdict

State = Literal["pending", "answered", "accepted", "rejected", "failed"]

JOURNAL_FILE = "journal.sqlite"
"""Name in the run folder."""
_APPLICATION_ID = 0x56524A4C  # the letters VRJL, in the file's header
_PAGE_ROWS = 500
_BUSY_SECONDS = 60.0
_MAX_DETAIL_CHARS = 300
_FAILURES_TO_ASK_AGAIN = ("endpoint", "unreadable_video")
"""An endpoint recovers, and a disk is mounted again; a refused request stays one."""


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
    """Of a rejection or a failure; empty otherwise."""
    detail: str
    key: str
    """Of its reply; empty for none."""
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
        if state in ("rejected", "failed"):
            getattr(self, state)[cause] += number
        else:
            setattr(self, state, getattr(self, state) + number)


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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None
            )
        try:
            with self._errors():
                self._create()
            self.cache = ReplyCache(self.path)
            if identity is not None:
                self._begin(identity)
            self._counts = self._count()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, clips: Iterable[Clip]) -> int:
        """Add the clips that the journal does not have, after those that it has.

        Args:
            clips: The whole sample; each clip once.

        Returns:
            The number of new clips.

        Raises:
            ValueError: The journal has clips that are not among these, or has one otherwise.
        """
        num_given = num_new = 0
        num_before = self._counts.num_clips
        with self._transaction() as connection:
            for clip in clips:
                num_given += 1
                content = json.dumps(asdict(clip))
                added = connection.execute(
                    "INSERT OR IGNORE INTO clips (id, clip) VALUES (?, ?)", (clip.id, content)
                ).rowcount
                num_new += added
                if not added:
                    self._check_same(connection, clip.id, content)
            if num_given - num_new != num_before:
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
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE clips SET state = 'pending', cause = '', detail = '', created = '' "
                f"WHERE state = 'failed' AND cause IN ({marks})",  # noqa: S608
                _FAILURES_TO_ASK_AGAIN,
            ).rowcount
        self._counts = self._count()
        return changed

    def add_judged(self, judged: Iterable[tuple[Clip, Verdict]]) -> None:
        """Add new clips together with the decisions on answers that no teacher gave."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            store_reply(connection, "", key, reply)
            self._set(connection, clip_id, "answered", key=key)

    def record_failure(self, clip_id: str, failure: Failure, detail: str) -> None:
        """Record that a clip has no answer.

        Args:
            clip_id: Its id.
            failure: The cause.
            detail: In words; of others, so that it is made printable and cut here.
        """
        with self._transaction() as connection:
            self._set(connection, clip_id, "failed", cause=failure, detail=_shown(detail))

    def record_verdict(self, clip_id: str, verdict: Verdict) -> None:
        """Record the gate's decision on a clip's answer; a later one replaces it."""
        self.record_verdicts([(clip_id, verdict)])

    def record_verdicts(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Record several decisions in one transaction.

        Raises:
            ValueError: A clip has no reply.
        """
        with self._transaction() as connection:
            for clip_id, verdict in verdicts:
                state: State = "rejected" if verdict.rejection else "accepted"
                before = self._state(connection, clip_id)
                if before[0] in ("pending", "failed"):
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
        with self._transaction() as connection:
            former = _value(connection, "judged_by")
            if former == judged_by:
                return 0
            forgotten = connection.execute(
                "UPDATE clips SET state = 'answered', cause = '', detail = '', verdict = NULL "
                "WHERE verdict IS NOT NULL"
            ).rowcount
            _set_value(connection, "judged_by", judged_by)
        self._counts = self._count()
        return forgotten

    def note(self, name: str, value: str) -> None:
        """Write down a fact about the run, such as its estimated cost."""
        with self._transaction() as connection:
            _set_value(connection, f"note {name}", value)

    def noted(self, name: str) -> str:
        """Return what :meth:`note` has written down; empty for nothing."""
        with self._errors():
            return _value(self._connection, f"note {name}") or ""

    def reply(self, key: str) -> ChatReply:
        """Return the stored reply of a key.

        Raises:
            ValueError: There is none: the file is damaged.
        """
        with self._errors():
            stored = stored_reply(self._connection, key)
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
            rejected=+counts.rejected,
            failed=+counts.failed,
        )

    def _create(self) -> None:
        connection = self._connection
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION_ID and tables:
            raise ValueError(
                f"{self.path} is a database of something else; move it away, or choose another "
                "run_dir"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit is the system's at once, which a kill does not undo, and on the disk a little
        # later; the replies themselves are flushed when the teacher stores them by their keys.
        connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS clips (number INTEGER PRIMARY KEY, id TEXT NOT NULL "
                "UNIQUE, clip TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending', cause TEXT NOT "
                "NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '', "
                "created TEXT NOT NULL DEFAULT '', verdict TEXT)"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )

    def _begin(self, identity: Mapping[str, Any]) -> None:
        given = json.dumps(identity, sort_keys=True)
        with self._transaction() as connection:
            former = _value(connection, "identity")
            if former is None:
                _set_value(connection, "identity", given)
                return
        if former != given:
            changed = _differences(json.loads(former), json.loads(given))
            raise ValueError(
                f"{self.path} was begun with another configuration: {changed}; set it back, or "
                "choose another run_dir"
            )

    def _check_same(self, connection: sqlite3.Connection, clip_id: str, content: str) -> None:
        query = "SELECT clip FROM clips WHERE id = ?"
        former = connection.execute(query, (clip_id,)).fetchone()[0]
        if former != content:
            changed = _differences(json.loads(former), json.loads(content))
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

    def _records(
        self, where: str, values: Iterable[str] = (), after: int = 0
    ) -> Iterator[Record]:
        """Give the clips of a condition; no cursor stays open, as the caller may write meanwhile.

        Pages are of numbers only: a row may have megabytes.
        """
        page = f"SELECT number FROM clips WHERE number > ? AND ({where}) ORDER BY number LIMIT ?"  # noqa: S608
        columns = "number, clip, state, cause, detail, key, created, verdict"
        one = f"SELECT {columns} FROM clips WHERE number = ? AND ({where})"  # noqa: S608
        values = tuple(values)
        while True:
            with self._errors():
                numbers = self._connection.execute(page, (after, *values, _PAGE_ROWS)).fetchall()
            for (after,) in numbers:  # noqa: B007 - the last one begins the next page
                with self._errors():
                    row = self._connection.execute(one, (after, *values)).fetchone()
                if row is not None:
                    yield _record(row)
            if len(numbers) < _PAGE_ROWS:
                return

    def _count(self) -> Counts:
        counts = Counts()
        query = "SELECT state, cause, COUNT(*) FROM clips GROUP BY state, cause"
        with self._errors(), closing(self._connection.execute(query)) as rows:
            for row in rows:
                counts.add(*row)
        return counts

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing is written; only the block's end lets others see it."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path} cannot be used as a journal ({error}); if the disk is full, make room and "
            "start again: what was recorded is kept; if it is another file, choose another run_dir"
        )


def _shown(detail: str) -> str:
    """Return a text that others have a hand in as it may be stored and shown."""
    return printable(without_url_credentials(detail), _MAX_DETAIL_CHARS)


def _record(row: Sequence[Any]) -> Record:
    number, clip, *rest, verdict = row
    decided = None if verdict is None else verdict_from_json(json.loads(verdict))
    return Record(number, Clip(**json.loads(clip)), *rest, decided)


def _value(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _set_value(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))


def _differences(former: Any, given: Any, where: str = "") -> str:  # noqa: ANN401 - JSON
    """Name the first values that differ, in words."""
    if isinstance(former, dict) and isinstance(given, dict):
        names = [name for name in former | given if former.get(name) != given.get(name)]
        parts = [
            _differences(former.get(name), given.get(name), f"{where}.{name}" if where else name)
            for name in names[:3]
        ]
        return ", ".join(parts)
    return f"{where} was {printable(repr(former), 80)} and is {printable(repr(given), 80)}"
