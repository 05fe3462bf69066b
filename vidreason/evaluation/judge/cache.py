"""Judges' outputs on disk, by content: the same request to the same judge is asked once.

SQLite makes each output whole or absent, whoever is killed, and lets several processes share a
file. What is kept is the raw output, valid or not, so that a table can be made again from it, and
no request is repeated until its output happens to be valid.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vidreason.evaluation.judge.judges import Judge
from vidreason.evaluation.judge.request import JudgeRequest, as_json

_BUSY_SECONDS = 60.0


class JudgeCache:
    """Outputs in one SQLite file.

    Args:
        path: The file; it and its folder are made if they are not there.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS outputs (key TEXT PRIMARY KEY, judge TEXT NOT NULL, "
                "output TEXT NOT NULL)"
            )

    def ask(self, judge: Judge, request: JudgeRequest) -> str:
        """The output that ``judge`` gave, or gives now, to ``request``.

        Raises:
            JudgeUnavailableError: As :meth:`Judge.ask`; nothing is kept then.
        """
        key = request_key(judge.judge_id, request)
        with self._open() as connection:
            row = connection.execute("SELECT output FROM outputs WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return str(row[0])
        output = judge.ask(request)
        with self._open() as connection:
            # Where two processes asked at once, the first output stays: all read the same.
            connection.execute(
                "INSERT OR IGNORE INTO outputs VALUES (?, ?, ?)", (key, judge.judge_id, output)
            )
            row = connection.execute("SELECT output FROM outputs WHERE key = ?", (key,)).fetchone()
        return str(row[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection, connection:
            yield connection


def request_key(judge_id: str, request: JudgeRequest) -> str:
    """SHA-256 of the judge and all that it is shown."""
    content = json.dumps([judge_id, as_json(request)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
