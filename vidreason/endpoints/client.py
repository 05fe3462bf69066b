"""Client of an endpoint of the chat-completions form, for many threads at a time.

Built on the ``openai`` package, whose limits are not enough for a service that may be slow, broken
or hostile: its timeout is per read, its bodies have no limit, it follows redirects with the key,
and it does not retry a reply without a text. Here requests run on an event loop in a thread, where
a deadline ends a try whatever it waits for; the transport bounds what is read; and the key is
removed from what comes back.
"""

import asyncio
import datetime
import logging
import random
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, Self, TypeVar

from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.errors import EndpointRefusedError, EndpointUnavailableError
from vidreason.endpoints.messages import Message, encodable, plain_messages
from vidreason.endpoints.replies import BadReplyError, ChatReply, NoAnswerError, read_reply
from vidreason.secrets import SecretFilter, SecretLogFilter, printable

try:
    import httpx2
    import openai

    from vidreason.endpoints.failures import Failure, failure_of
    from vidreason.endpoints.transport import BoundedTransport
except ModuleNotFoundError as error:
    raise ValueError(
        f"an endpoint needs the package openai, and {error.name} is not installed: "
        "pip install 'vidreason[endpoints]'"
    ) from error

_FIRST_WAIT_SECONDS = 1.0  # doubled at each further try
_LONGEST_WAIT_SECONDS = 60.0
_MAX_MESSAGE_CHARS = 300
_LOGGERS = (
    *("openai._base_client", "httpx2", "httpcore2.connection", "httpcore2.http11"),
    *("httpcore2.proxy", "asyncio"),
)
"""Loggers of the libraries below; their debug messages show headers of replies."""

T = TypeVar("T")


class ChatEndpoint:
    """Client of one endpoint; close it, or use it in a ``with``.

    Args:
        config: The endpoint.
        budget: Counts and limits the requests, and says how fast they may be sent; None for no
            limit.
        sleep: Waits between tries; a test passes another.
        jitter: Draws from [0, 1): a wait is between half and the whole of the doubling one, so that
            parallel requests are not repeated all at once.

    Raises:
        ValueError: The environment variable of the key is not set, or ``openai`` not installed.
    """

    def __init__(
        self,
        config: EndpointConfig,
        budget: RequestBudget | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._budget = budget
        self._rates = None if budget is None else budget.rates
        self._sleep = sleep
        self._jitter = jitter
        key, proxy = config.key(), config.proxy()
        self._secrets = SecretFilter(_secret_parts(key, proxy))
        self._log_filter = SecretLogFilter(self._secrets)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._log_filter)
        # There is a connection for each thread, and the deadline is not httpx2's.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=32)
        network = httpx2.AsyncHTTPTransport(
            verify=_certificates(config.base_url), trust_env=False, limits=limits, proxy=proxy
        )
        self._client = openai.AsyncOpenAI(
            # The package wants a key; the transport sends the true one.
            api_key="held by the transport",
            base_url=config.base_url,
            # Tries, their times and redirects are decided here, not by the package.
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(
                transport=BoundedTransport(network, key),
                follow_redirects=False,
                trust_env=False,
                timeout=None,
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chat-endpoint", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"ChatEndpoint({self._config.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def complete(
        self,
        model: str,
        messages: Sequence[Message],
        fields: Mapping[str, Any] | None = None,
    ) -> ChatReply:
        """Return a model's reply; may be called from any thread.

        A reply of the right form without a text, and without a reason for that, is also tried
        again; the last one of ``max_attempts`` is returned. If the endpoint refuses the texts of
        the request, as too long or not allowed, or the last reply is one without a choice, the
        reply has no text and says so.

        Args:
            model: Its id at the endpoint.
            messages: The conversation, each with ``role`` and ``content``, a text or parts of
                :mod:`vidreason.endpoints.messages`. Texts are plain: a blank is put into anything
                that may be a control token of the model, as some servers parse these.
            fields: Further fields of the request's body, such as ``temperature``.

        Raises:
            EndpointUnavailableError: No try gave a reply of the right form.
            EndpointRefusedError: The endpoint refuses the request; another try would not help.
            BudgetSpentError: No further request may be paid for.
            ValueError: The request is larger than any that is sent.
        """
        body = encodable(plain_messages(messages))
        reply = self._run(self._complete(model, body, encodable(dict(fields or {}))))
        return replace(
            reply, text=self._secrets.clean(reply.text), problem=self._secrets.clean(reply.problem)
        )

    def close(self) -> None:
        """Cancel the requests in progress, which raise, and close all connections."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._log_filter)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()  # a coroutine that never runs would warn
            raise EndpointUnavailableError(f"{self._config.base_url}: closed already") from error
        try:
            return future.result()
        except CancelledError as error:
            raise EndpointUnavailableError(f"{self._config.base_url}: closed meanwhile") from error
        except KeyboardInterrupt:
            # It would go on in the thread of the loop.
            future.cancel()
            raise

    async def _complete(self, model: str, messages: list[Any], fields: dict[str, Any]) -> ChatReply:
        last = self._config.max_attempts
        for attempt in range(1, last + 1):
            reserved = await self._turn()
            if self._budget is not None:
                # In a thread: another process may hold the file.
                await asyncio.to_thread(self._budget.spend)
            try:
                reply = await self._try(model, messages, fields)
                if self._rates is not None:
                    num_tokens = reply.num_prompt_tokens + reply.num_generated_tokens
                    self._rates.settle(reserved, num_tokens)
                # The last one is taken as it is: an empty text may be all that the model says.
                if reply.text.strip() or reply.problem or attempt == last:
                    return reply
                raise BadReplyError("the reply has no text")
            except Exception as error:
                now = datetime.datetime.now(datetime.UTC)
                failure = failure_of(error, self._config, now)
                # Before the exception ends the tries, so that the count is right in any case.
                if self._budget is not None and failure.unpaid:
                    await asyncio.to_thread(self._budget.give_back)
                self._slow_down(failure, reserved)
                # Some services have no choice for what they refuse, so that the last one counts.
                has_no_answer = isinstance(error, NoAnswerError) and attempt == last
                if failure.about_content or has_no_answer:
                    return ChatReply(text="", problem=self._shown(failure.message))
                if attempt == last or not failure.passing:
                    self._secrets.clean_exception(error, _MAX_MESSAGE_CHARS)
                    raise self._final(failure, attempt) from error
            await self._sleep(self._wait(attempt, failure.retry_after))
        raise AssertionError("max_attempts is at least 1")

    async def _turn(self) -> float:
        """Wait until the rate limits let a try go; return the tokens that are reserved for it."""
        if self._rates is None:
            return 0.0
        while seconds := self._rates.seconds_to_wait():
            await self._sleep(seconds)
        return self._rates.take()

    def _slow_down(self, failure: Failure, reserved: float) -> None:
        """Let all requests wait as long as the endpoint has asked one of them to."""
        if self._rates is None:
            return
        if failure.unpaid:
            self._rates.give_back(reserved)
        self._rates.pause(min(failure.retry_after, _LONGEST_WAIT_SECONDS))

    async def _try(self, model: str, messages: list[Any], fields: dict[str, Any]) -> ChatReply:
        async with asyncio.timeout(self._config.timeout_seconds):
            raw = await self._client.chat.completions.with_raw_response.create(
                model=model,
                messages=messages,
                extra_body=fields,
            )
        return read_reply(raw.content)

    def _wait(self, attempt: int, retry_after: float) -> float:
        """Seconds until the next try."""
        doubling = min(_FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
        return max(doubling * (0.5 + 0.5 * self._jitter()), min(retry_after, _LONGEST_WAIT_SECONDS))

    def _final(self, failure: Failure, num_tries: int) -> Exception:
        """Make the exception for the last failure."""
        cause = self._shown(failure.message)
        if failure.refused:
            return EndpointRefusedError(f"{self._config.base_url} {cause}")
        tries = "1 try" if num_tries == 1 else f"{num_tries} tries"
        return EndpointUnavailableError(
            f"{self._config.base_url} gave no output in {tries}; the last one failed: {cause}"
        )

    def _shown(self, message: str) -> str:
        # Cut before it is cleaned: a message of an endpoint may be as long as a whole reply.
        cleaned = self._secrets.clean(message[: 8 * _MAX_MESSAGE_CHARS])
        return printable(cleaned, _MAX_MESSAGE_CHARS)

    async def _end(self) -> None:
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        # Tasks end before the connections that they use are closed.
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()
        await asyncio.sleep(0)  # lets the transports of the loop say goodbye


def _certificates(base_url: str) -> ssl.SSLContext | bool:
    """Return the certificates to verify with; none without encryption, as reading takes time."""
    encrypted = base_url.startswith("https://")
    return True if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _secret_parts(key: str, proxy: str | None) -> list[str]:
    """Return the key, and the user and password of a proxy."""
    if proxy is None:
        return [key]
    url = httpx2.URL(proxy)
    # User and password also by themselves, as an error may name one without the rest of the URL.
    return [key, proxy, url.username, url.password]
