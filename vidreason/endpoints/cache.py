"""Models' replies on disk, by content: the same request to the same model is sent once.

SQLite makes each reply whole or absent, whoever is killed, and lets several processes share a
file. What is kept is the raw output, valid or not, so that a table can be made again from it, and
no request is repeated until its output happens to be valid. What is no output of a model, such as a
reply that is not of the form, raises before it gets here.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from vidreason.endpoints.replies import ChatReply

_BUSY_SECONDS = 60.0


class ReplyCache:
    """Replies in one SQLite file.

    Args:
        path: The file; it and its folder are made if they are not there.

    Raises:
        ValueError: The file is something else, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self._open() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS outputs (key TEXT PRIMARY KEY, judge TEXT NOT NULL, "
                "output TEXT NOT NULL, problem TEXT NOT NULL DEFAULT '')"
            )
            columns = {row[1] for row in connection.execute("PRAGMA table_info(outputs)")}
            if b"problem" not in columns:
                connection.execute("ALTER TABLE outputs ADD COLUMN problem TEXT DEFAULT ''")

    def reply(
        self, model_id: str, request: Mapping[str, Any], ask: Callable[[], ChatReply]
    ) -> ChatReply:
        """The reply that is kept for a request, or that ``ask`` gives now.

        Args:
            model_id: Names the model with all that can change its output.
            request: All that the model is shown, as JSON.
            ask: Sends the request; what it raises is passed on, and nothing is kept then. A count
                or a limit of requests belongs into it.
        """
        key = request_key(model_id, request)
        if (kept := self._kept(key)) is not None:
            return kept
        reply = ask()
        with self._open() as connection:
            # Where two processes asked at once, the first output stays: all read the same.
            connection.execute(
                "INSERT OR IGNORE INTO outputs (key, judge, output, problem) VALUES (?, ?, ?, ?)",
                (key, model_id, reply.text, reply.problem),
            )
        return self._kept(key) or reply

    def _kept(self, key: str) -> ChatReply | None:
        """The kept reply; one that is damaged is deleted."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT typeof(output), output, typeof(problem), problem FROM outputs "
                "WHERE key = ?",
                (key,),
            ).fetchone()
            if row is None:
                return None
            reply = _read(*row)
            if reply is None:
                connection.execute("DELETE FROM outputs WHERE key = ?", (key,))
            return reply

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
                connection.text_factory = bytes
                with connection:
                    yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self._path} cannot be used as a cache of replies ({error}); make room, or move the "
            "file away: what it holds is asked for again then"
        )


def request_key(model_id: str, request: Mapping[str, Any]) -> str:
    """SHA-256 of the model and all that it is shown."""
    content = json.dumps([model_id, request], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read(
    output_type: bytes, output: object, problem_type: bytes, problem: object
) -> ChatReply | None:
    """A row as a reply; None where it is damaged."""
    if not (isinstance(output, bytes) and isinstance(problem, bytes)):
        return None
    if output_type != b"text" or problem_type != b"text":
        return None
    try:
        return ChatReply(text=output.decode(), problem=problem.decode())
    except UnicodeDecodeError:
        return None
