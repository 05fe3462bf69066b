"""The SQLite file of a journal: tables, transactions, and what helps where it cannot be used."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_APPLICATION_ID = 0x56524A4C  # the letters VRJL, in the file's header
_BUSY_SECONDS = 60.0  # to wait for another process' lock


class JournalFile:
    """An open connection to a journal's file.

    Args:
        path: The file; it and its folder are created if need be.

    Raises:
        ValueError: The file is something else or damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self.errors():
            # isolation_level None: sqlite3 begins no transactions of its own.
            self.connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with self.errors():
                self._create()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing is written; only the block's end lets others see it.

        Raises:
            ValueError: It cannot be written.
        """
        with self.errors():
            # The lock for writing at once: one that is wanted after a first read is refused without
            # a wait if somebody else has written in between.
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk may have ended it
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of SQLite within the block into one that says what to do.

        Raises:
            ValueError: As said.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _create(self) -> None:
        connection = self.connection
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION_ID and tables:
            raise ValueError(
                f"{self._path} is a database of something else; move it away, or choose another "
                "run_dir"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit is the system's at once, which a kill does not undo, and on the disk a little
        # later; the replies themselves are flushed when the teacher stores them by their keys.
        connection.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
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

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self._path} cannot be used as a journal ({error}); if the disk is full, make room "
            "and start again: what was recorded is kept; if it is another file, choose another "
            "run_dir"
        )


def value_of(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a fact about the run; None for one that was never written down."""
    row = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def set_value(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Write down a fact about the run, within a transaction of the caller's."""
    connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
