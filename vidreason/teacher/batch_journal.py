"""Journal of batches, in the file of the replies: what is under way, whoever is killed.

A batch is written down before anything is paid for, and once more with each id that the endpoint
gives. One whose id is missing is looked for by its tag and its file.
"""

import time
import uuid
from collections.abc import Callable, Collection
from typing import NamedTuple

from vidreason.endpoints.cache import ReplyCache


class JournaledBatch(NamedTuple):
    """A batch that has not ended, as far as is known here."""

    tag: str
    """Name in the endpoint's metadata."""
    input_file: str
    """Id of the uploaded file; empty before it is known: there can be no batch then."""
    batch: str
    """Id of the batch; empty before it is known: there may be one."""
    created: float
    """Seconds of the epoch."""


class BatchJournal:
    """Batches of one teacher.

    Args:
        cache: Of the replies.
        teacher_id: Names the teacher.
        clock: Seconds of the epoch; a test passes another.
    """

    def __init__(
        self, cache: ReplyCache, teacher_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._cache = cache
        self._teacher_id = teacher_id
        self._clock = clock
        with cache.connection() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS batches (tag TEXT PRIMARY KEY, model TEXT NOT NULL, "
                "input_file TEXT NOT NULL DEFAULT '', batch TEXT NOT NULL DEFAULT '', "
                "created REAL NOT NULL, num_requests INTEGER NOT NULL, "
                "ended TEXT NOT NULL DEFAULT '')"
            )
            connection.execute(
                # Requests of batches that have not ended, none of which is to be sent twice.
                "CREATE TABLE IF NOT EXISTS batched_requests (key TEXT NOT NULL, tag TEXT NOT NULL,"
                " PRIMARY KEY (key, tag)) WITHOUT ROWID"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS batched_tags ON batched_requests (tag)")

    def begin(self, keys: Collection[str]) -> str:
        """Write down a batch that is about to be uploaded; return its tag."""
        tag = uuid.uuid4().hex
        # One transaction: no batch is known without its requests.
        with self._cache.connection() as connection:
            connection.execute(
                "INSERT INTO batches (tag, model, created, num_requests) VALUES (?, ?, ?, ?)",
                (tag, self._teacher_id, self._clock(), len(keys)),
            )
            connection.executemany(
                "INSERT INTO batched_requests VALUES (?, ?)", [(key, tag) for key in keys]
            )
        return tag

    def uploaded(self, tag: str, input_file: str) -> None:
        """Write down the file of a batch that is about to be created."""
        with self._cache.connection() as connection:
            connection.execute(
                # The time counts from here: the request that creates the batch is sent next.
                "UPDATE batches SET input_file = ?, created = ? WHERE tag = ?",
                (input_file, self._clock(), tag),
            )

    def created(self, tag: str, batch: str) -> None:
        """Write down the id of a batch."""
        with self._cache.connection() as connection:
            connection.execute("UPDATE batches SET batch = ? WHERE tag = ?", (batch, tag))

    def end(self, tag: str, how: str) -> None:
        """Write down that nothing more is to come of a batch; its requests are forgotten.

        Args:
            tag: Of the batch.
            how: Status at the endpoint, or ``never created``; printable.
        """
        with self._cache.connection() as connection:
            connection.execute("UPDATE batches SET ended = ? WHERE tag = ?", (how, tag))
            connection.execute("DELETE FROM batched_requests WHERE tag = ?", (tag,))

    def open(self) -> list[JournaledBatch]:
        """Return the batches that have not ended, in the order of their beginning."""
        with self._cache.connection() as connection:
            rows = connection.execute(
                "SELECT tag, input_file, batch, created FROM batches "
                "WHERE model = ? AND ended = '' ORDER BY created, tag",
                (self._teacher_id,),
            )
            return [JournaledBatch(*row) for row in rows]

    def keys(self, tag: str) -> set[str]:
        """Return the keys of a batch's requests."""
        with self._cache.connection() as connection:
            rows = connection.execute("SELECT key FROM batched_requests WHERE tag = ?", (tag,))
            return {row[0] for row in rows}

    def is_under_way(self, key: str) -> bool:
        """Tell whether a request is in a batch that has not ended."""
        with self._cache.connection() as connection:
            # Batches that have ended have no rows in the table of requests.
            row = connection.execute(
                "SELECT 1 FROM batched_requests JOIN batches USING (tag) "
                "WHERE key = ? AND model = ? LIMIT 1",
                (key, self._teacher_id),
            ).fetchone()
        return row is not None
