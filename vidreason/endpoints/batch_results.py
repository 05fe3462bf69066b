"""Results of a batch: a file of JSON lines of a service, which may be wrong in any way.

Each line is counted under what it is; only a reply of the right form to a request of this batch
becomes one, and the first of several does.
"""

import datetime
import io
import json
from collections import Counter
from collections.abc import Iterator, Set
from typing import Any

import httpx2
import openai

from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.failures import failure_of
from vidreason.endpoints.replies import BadReplyError, ChatReply, reply_of
from vidreason.endpoints.transport import MAX_REPLY_BYTES
from vidreason.secrets import printable

_MAX_EXAMPLES = 5
_MAX_NAME_CHARS = 40
_MAX_CAUSES = 30
"""Causes that are told apart; a service may give each line a code of its own."""


class BatchResults:
    """Reads the files of results of one batch; one pass each.

    Args:
        keys: ``custom_id`` of each request of the batch.
        config: The endpoint, for messages.
    """

    def __init__(self, keys: Set[str], config: EndpointConfig) -> None:
        self._keys = keys
        self._config = config
        self._seen: set[str] = set()
        self.num_paid = 0
        """Requests that a model has worked on."""
        self.num_replies = 0
        self.problems: Counter[str] = Counter()
        """Lines that gave no reply, by cause, and requests without a line."""
        self.examples: list[str] = []
        """Details of the first of them; not cleaned of secrets."""

    def replies(self, content: bytes) -> Iterator[tuple[str, ChatReply]]:
        """Yield the replies in a file, each with its ``custom_id``; not cleaned of secrets."""
        # Bytes: lines of a text would also end at U+2028, which JSON may hold.
        for number, line in enumerate(io.BytesIO(content), start=1):
            if not line.strip():
                continue
            if len(line) > MAX_REPLY_BYTES:
                self._count("too long line", f"line {number} has {len(line):,} bytes")
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                shown = printable(line[:80].decode("utf-8", "replace"), 60)
                self._count("invalid line", f"line {number} is no JSON object: {shown!r}")
                continue
            key = value.get("custom_id")
            if not isinstance(key, str) or key not in self._keys:
                self._count("unknown custom_id", f"line {number}: {_word(key)!r}")
            elif key in self._seen:
                self._count("duplicate", f"line {number}: {key}")
            else:
                # The first line of a request counts, whatever it holds.
                self._seen.add(key)
                reply = self._reply(value)
                if reply is not None:
                    self.num_replies += 1
                    yield key, reply

    def end(self, is_complete: bool) -> None:
        """Count the requests without a line, after the last file.

        Args:
            is_complete: Whether the batch has ended by itself: they were paid for then, as far as
                anybody can tell.
        """
        missing = len(self._keys) - len(self._seen)
        if missing:
            self._count("missing", f"{missing} requests have no line", missing)
        if is_complete:
            self.num_paid += missing

    def _reply(self, value: dict[str, Any]) -> ChatReply | None:
        response = value.get("response")
        # No HTTP response: an error of the batch itself, such as that it has expired.
        if not isinstance(response, dict):
            error = value.get("error")
            error = error if isinstance(error, dict) else {}
            self._count(f"error {_word(error.get('code'))}", _word(error.get("message"), 200))
            return None
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            # A model has worked on it, whatever the form of its reply.
            self.num_paid += 1
            try:
                return reply_of(body)
            except BadReplyError as error:
                self._count("no reply of the form", str(error))
                return None
        if type(status) is not int or not 100 <= status < 1000:
            self._count("no status", _word(status))
            return None
        return self._refused(status, body)

    def _refused(self, status: int, body: object) -> ChatReply | None:
        """Return the reply to a request that is refused for its texts; it has none, and says so."""
        error = body.get("error") if isinstance(body, dict) else None
        try:
            content = json.dumps({"error": error}).encode()
        except RecursionError:
            error, content = None, b"{}"
        # The exception that a request by itself would have raised, so that one rule judges both.
        request = httpx2.Request("POST", self._config.base_url)
        answer = httpx2.Response(status, content=content, request=request)
        raised = openai.APIStatusError(f"status {status}", response=answer, body=error)
        failure = failure_of(raised, self._config, datetime.datetime.now(datetime.UTC))
        if failure.about_content:
            return ChatReply(text="", problem=printable(failure.message))
        self._count(f"status {status}", failure.message)
        return None

    def _count(self, cause: str, detail: str, count: int = 1) -> None:
        if len(self.problems) >= _MAX_CAUSES and cause not in self.problems:
            cause = "other"
        self.problems[cause] += count
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(f"{cause}: {printable(detail, 200)}")


def _word(value: object, max_chars: int = _MAX_NAME_CHARS) -> str:
    """Return a text or number of others for a message; of anything else its kind."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return printable(value if isinstance(value, str) else f"{value:.6g}", max_chars)
    return type(value).__name__
