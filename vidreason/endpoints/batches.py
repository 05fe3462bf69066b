"""Client of a batch API of OpenAI's form: requests in a file, and their replies a day later.

A file of requests is uploaded, a batch of it created, looked at until it has ended, and its files
of results downloaded. What the endpoint says is not trusted: ids are checked before they become a
part of a URL, and nothing that tells of the key is kept.
"""

import asyncio
import datetime
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeVar

import openai

from vidreason.endpoints.client import ChatEndpoint
from vidreason.endpoints.errors import EndpointRefusedError, EndpointUnavailableError
from vidreason.endpoints.failures import failure_of
from vidreason.endpoints.replies import BadReplyError
from vidreason.endpoints.transport import MAX_FILE_BYTES

REQUEST_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
"""Kind of the requests of a batch."""
TAG = "vidreason_tag"
"""Name of the metadata by which a batch is recognized whose id was not written down."""
_WINDOW: Literal["24h"] = "24h"
_ENDED = ("completed", "failed", "expired", "cancelled")
_BYTES_PER_SECOND = 2**18
"""Slowest transfer of a file that is waited for."""
_PAGE = 100  # batches a request
_MAX_PAGES = 100  # so that a service which names a next page for ever ends
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
_MAX_ERRORS = 5

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RemoteBatch:
    """A batch as the endpoint describes it."""

    id: str
    status: str
    """Printable; ``completed``, ``failed``, ``expired`` and ``cancelled`` are ends."""
    input_file: str
    output_file: str | None
    """Id of the file of replies; None for none."""
    error_file: str | None
    """Id of the file of requests without a reply; None for none."""
    tag: str
    """Value of the metadata :data:`TAG`; empty for none."""
    detail: str
    """Errors of the batch as a whole; printable."""

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more is to come."""
        return self.status in _ENDED


class BatchEndpoint(ChatEndpoint):
    """An endpoint with a batch API; batches are not counted here.

    Arguments are those of :class:`ChatEndpoint`.

    Its methods raise ``EndpointUnavailableError`` where the endpoint gives no answer of the right
    form in ``max_attempts`` tries, and ``EndpointRefusedError`` where it refuses a request.
    """

    def upload(self, file: IO[bytes], num_bytes: int) -> str:
        """Upload a file of requests, one JSON object a line; return its id.

        Args:
            file: At any position.
            num_bytes: Its size.
        """

        async def send() -> str:
            file.seek(0)  # another try sends it from its start
            raw = await self._client.files.with_raw_response.create(
                file=("requests.jsonl", file, "application/jsonl"), purpose="batch"
            )
            return self._id(_json_object(raw.content).get("id"), "of a file")

        return self._run(self._retried(send, self._seconds(num_bytes)))

    def create(self, input_file: str, tag: str) -> RemoteBatch:
        """Create the batch of an uploaded file, once.

        A try of which it is not known how it ended is looked for before the next one.

        Args:
            input_file: Id of the file.
            tag: Unique; written into the batch's metadata.
        """
        is_first = True

        async def send() -> RemoteBatch:
            nonlocal is_first
            if not is_first and (created := await self._find(tag, input_file)):
                return created
            # Before it is sent: a try that ends without an answer may have created a batch.
            is_first = False
            raw = await self._client.batches.with_raw_response.create(
                completion_window=_WINDOW,
                endpoint=REQUEST_PATH,
                input_file_id=input_file,
                metadata={TAG: tag},
            )
            return self._batch(_json_object(raw.content))

        return self._run(self._retried(send, self._seconds(0)))

    def look(self, batch_id: str) -> RemoteBatch | None:
        """Return a batch as it is now; None where the endpoint does not know it."""

        async def send() -> RemoteBatch | None:
            try:
                raw = await self._client.batches.with_raw_response.retrieve(batch_id)
            except openai.NotFoundError:
                return None
            return self._batch(_json_object(raw.content))

        return self._run(self._retried(send, self._seconds(0)))

    def find(self, tag: str, input_file: str) -> RemoteBatch | None:
        """Return the batch with a tag, or of a file, among all of the account; None for none."""
        return self._run(self._retried(lambda: self._find(tag, input_file), self._seconds(0)))

    def download(self, file_id: str) -> bytes | None:
        """Return a file of results; None where the endpoint has it no longer."""

        async def send() -> bytes | None:
            try:
                raw = await self._client.files.with_raw_response.content(file_id)
            except openai.NotFoundError:
                return None
            return raw.content

        return self._run(self._retried(send, self._seconds(MAX_FILE_BYTES)))

    def delete_file(self, file_id: str) -> bool:
        """Delete a file, which only costs room; tell whether it is gone."""

        async def send() -> None:
            await self._client.files.with_raw_response.delete(file_id)

        try:
            self._run(self._retried(send, self._seconds(0)))
        except (EndpointUnavailableError, EndpointRefusedError) as error:
            _LOG.info("the file %s is left at the endpoint: %s", file_id, error)
            return False
        return True

    def clean(self, text: str) -> str:
        """Return a text of the endpoint without what tells of the key."""
        return self._secrets.clean(text)

    async def _find(self, tag: str, input_file: str) -> RemoteBatch | None:
        after: str | None = None
        for _ in range(_MAX_PAGES):
            raw = await self._client.batches.with_raw_response.list(
                limit=_PAGE, after=openai.omit if after is None else after
            )
            page = _json_object(raw.content)
            items = page.get("data")
            if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
                raise BadReplyError("the list of batches has no data")
            for item in items:
                metadata = item.get("metadata")
                is_tagged = isinstance(metadata, dict) and metadata.get(TAG) == tag
                if is_tagged or item.get("input_file_id") == input_file:
                    return self._batch(item)
            if not items or not page.get("has_more"):
                return None
            # It becomes a part of the next URL.
            after = self._id(items[-1].get("id"), "of a batch")
        raise BadReplyError(f"the list of batches has more than {_MAX_PAGES} pages")

    async def _retried(self, send: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Try until there is an answer of the right form, each time within ``seconds``."""
        last = self._config.max_attempts
        for attempt in range(1, last + 1):
            try:
                async with asyncio.timeout(seconds):
                    return await send()
            except Exception as error:
                now = datetime.datetime.now(datetime.UTC)
                failure = failure_of(error, self._config, now)
                if attempt == last or not failure.passing:
                    # Its text may tell of the key, and is shown as the cause.
                    self._secrets.clean_exception(error)
                    raise self._final(failure, attempt) from error
            await self._sleep(self._wait(attempt, failure.retry_after))
        raise AssertionError("max_attempts is at least 1")

    def _seconds(self, num_bytes: int) -> float:
        """Return the longest time of a transfer."""
        return self._config.timeout_seconds + num_bytes / _BYTES_PER_SECOND

    def _batch(self, value: dict[str, Any]) -> RemoteBatch:
        metadata = value.get("metadata")
        tag = metadata.get(TAG) if isinstance(metadata, dict) else None
        return RemoteBatch(
            id=self._id(value.get("id"), "of a batch"),
            status=self._shown(_text(value.get("status"))),
            input_file=self._id(value.get("input_file_id"), "of a batch's file"),
            output_file=self._optional_id(value.get("output_file_id")),
            error_file=self._optional_id(value.get("error_file_id")),
            tag=tag if isinstance(tag, str) else "",
            detail=self._shown("; ".join(_errors(value.get("errors")))),
        )

    def _optional_id(self, value: object) -> str | None:
        return self._id(value, "of a batch's results") if value else None

    def _id(self, value: object, what: str) -> str:
        """Return an id that may stand in a URL and in a file.

        Raises:
            BadReplyError: It may not.
        """
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise BadReplyError(f"the id {what} is none: {_text(value)[:80]!r}")
        if self._secrets.clean(value) != value:
            raise BadReplyError(f"the id {what} tells of the key")
        return value


def _errors(value: object) -> list[str]:
    """Return the messages of a batch's errors, with their codes."""
    items = value.get("data") if isinstance(value, dict) else None
    errors = [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []
    return [
        f"{_text(one.get('code'))}: {_text(one.get('message'))[:200]}"
        for one in errors[:_MAX_ERRORS]
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadReplyError("the reply is not JSON") from error
    if not isinstance(value, dict):
        raise BadReplyError("the reply is no JSON object")
    return value
