"""Cache of models' replies on disk: the same request to the same model is sent once.

SQLite makes each reply whole or absent, whoever is killed, and lets several processes share a file.
The raw output is stored, valid or not, so that a table can be made again from it, and no request is
repeated until its output happens to be valid. A reply that is no output of a model, because it is
not of the form, raises before it gets here.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from vidreason.endpoints.replies import ChatReply

_BUSY_SECONDS = 60.0  # to wait for another process that writes to the same file


class ReplyCache:
    """Replies in one SQLite file.

    Args:
        path: The file; it and its folder are created if need be.

    Raises:
        ValueError: The file is something else, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self.connection() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS outputs (key TEXT PRIMARY KEY, judge TEXT NOT NULL, "
                "output TEXT NOT NULL, problem TEXT NOT NULL DEFAULT '')"
            )
            # A table of its own: files of earlier versions have no counts.
            connection.execute(
                "CREATE TABLE IF NOT EXISTS tokens (key TEXT PRIMARY KEY, prompt INTEGER NOT NULL, "
                "generated INTEGER NOT NULL, cached INTEGER NOT NULL DEFAULT 0)"
            )
            names = {row[1] for row in connection.execute("PRAGMA table_info(tokens)")}
            if "cached" not in names:  # a file of an earlier version
                connection.execute(
                    "ALTER TABLE tokens ADD COLUMN cached INTEGER NOT NULL DEFAULT 0"
                )

    def reply(
        self, model_id: str, request: Mapping[str, Any], send: Callable[[], ChatReply]
    ) -> ChatReply:
        """Return the stored reply to a request; without one, send it and store the reply.

        Args:
            model_id: Names the model and everything else that can change its output.
            request: Everything that the model is shown, as JSON.
            send: Sends the request. If it raises, nothing is stored. A count or a limit of requests
                belongs into it.
        """
        key = request_key(model_id, request)
        if (stored := self.stored(key)) is not None:
            return stored
        reply = send()
        self.put(model_id, [(key, reply)])
        # Another process may have stored a reply meanwhile: all read the same one.
        return self.stored(key) or reply

    def put(self, model_id: str, replies: Iterable[tuple[str, ChatReply]]) -> int:
        """Store replies by the keys of their requests, all or none; return the number of new ones.

        Args:
            model_id: As for :meth:`reply`.
            replies: Each with its :func:`request_key`. If two processes send a request at once, the
                first output stays: all read the same.
        """
        with self.connection() as connection:
            return sum(store_reply(connection, model_id, key, reply) for key, reply in replies)

    def stored(self, key: str) -> ChatReply | None:
        """Return the stored reply to the request of a :func:`request_key`; None for none."""
        with self.connection() as connection:
            return stored_reply(connection, key)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction.

        Raises:
            ValueError: The file is something else, damaged, or cannot be written.
        """
        try:
            connected = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
            # Of the two, the connection's own context commits or rolls back, and does not close.
            with closing(connected) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path} cannot be used as a cache of replies ({error}); make room, or move the "
            "file away: its requests are sent again then"
        )


def store_reply(connection: sqlite3.Connection, model_id: str, key: str, reply: ChatReply) -> bool:
    """Store a reply within the caller's transaction, as :meth:`ReplyCache.put` does.

    Returns:
        False where the file has a reply of this key, which stays.
    """
    inserted = connection.execute(
        "INSERT OR IGNORE INTO outputs (key, judge, output, problem) VALUES (?, ?, ?, ?)",
        (key, model_id, reply.text, reply.problem),
    )
    if not inserted.rowcount:
        return False
    tokens = reply.num_prompt_tokens, reply.num_generated_tokens, reply.num_cached_tokens
    connection.execute(
        "INSERT OR REPLACE INTO tokens (key, prompt, generated, cached) VALUES (?, ?, ?, ?)",
        (key, *tokens),
    )
    return True


def stored_reply(connection: sqlite3.Connection, key: str) -> ChatReply | None:
    """Return the reply of a key, as :meth:`ReplyCache.stored` does."""
    # Replies of earlier versions have no row of tokens.
    query = (
        "SELECT output, problem, COALESCE(prompt, 0), COALESCE(generated, 0), COALESCE(cached, 0) "
        "FROM outputs LEFT JOIN tokens USING (key) WHERE key = ?"
    )
    row = connection.execute(query, (key,)).fetchone()
    if row is None:
        return None
    text, problem, num_prompt, num_generated, num_cached = row
    return ChatReply(
        text=text,
        problem=problem,
        num_prompt_tokens=num_prompt,
        num_generated_tokens=num_generated,
        num_cached_tokens=num_cached,
    )


def request_key(model_id: str, request: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the model and everything that it is shown."""
    content = json.dumps([model_id, request], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
