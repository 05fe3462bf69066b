"""Transport under the ``openai`` package: few headers out, a body of bounded size in.

It knows the key, so that nothing above it does: neither the client's objects nor their exceptions.
"""

import zlib
from collections.abc import AsyncIterator

import httpx2
from typing_extensions import override

from vidreason.endpoints.replies import BadReplyError

MAX_REPLY_BYTES = 4 * 2**20
"""Largest body of a reply, as it comes and decompressed; a long answer has some 100 kB."""
MAX_HEADER_BYTES = 64 * 2**10

_SENT = ("Host", "Content-Type", "Content-Length", "User-Agent")
"""The package adds the machine's particulars, and what OPENAI_CUSTOM_HEADERS and OPENAI_ORG_ID of
the environment say, which are meant for another endpoint."""
_KEPT = ("Location", "Retry-After", "Retry-After-Ms")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests with the key, and reads each reply whole within :data:`MAX_REPLY_BYTES`.

    Args:
        inner: The transport of the network.
        key: Sent as a bearer token; empty for none.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, key: str) -> None:
        self._inner = inner
        self._key = key

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            BadReplyError: The reply is too large, or compressed in a way that was not asked for.
            httpx2.TransportError: The network failed.
        """
        # Not a dictionary: the representation of Headers, which tools that report errors show with
        # the other variables of a frame, leaves the key out.
        headers = httpx2.Headers(
            {name: request.headers[name] for name in _SENT if name in request.headers}
        )
        headers["Accept"], headers["Accept-Encoding"] = "application/json", "identity"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        response = await self._inner.handle_async_request(
            httpx2.Request(
                request.method,
                request.url,
                headers=headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )
        try:
            if sum(len(name) + len(value) for name, value in response.headers.raw) > (
                MAX_HEADER_BYTES
            ):
                raise BadReplyError(f"the headers have more than {MAX_HEADER_BYTES} bytes")
            body = await _body(response)
        finally:
            await response.aclose()
        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        return httpx2.Response(response.status_code, headers=kept, content=body)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


async def _body(response: httpx2.Response) -> bytes:
    """The decompressed body.

    Raises:
        BadReplyError: It is too large, or of another compression than gzip and deflate.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise BadReplyError(f"the reply is compressed as {coding!r}, which was not asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    whole = bytearray()
    if coding in ("", "identity"):
        async for chunk in _bounded(response.stream):
            whole += chunk
        return bytes(whole)
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for chunk in _bounded(response.stream):
            whole += unpacker.decompress(chunk, MAX_REPLY_BYTES + 1 - len(whole))
            if len(whole) > MAX_REPLY_BYTES:
                raise BadReplyError(
                    f"the reply has more than {MAX_REPLY_BYTES} bytes when it is unpacked"
                )
    except zlib.error as error:
        raise BadReplyError(f"the reply is no valid {coding} ({error})") from error
    if not unpacker.eof:
        raise BadReplyError(f"the reply is {coding} that was cut off")
    return bytes(whole)


async def _bounded(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    """The chunks of a stream, up to the limit."""
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise BadReplyError(f"the reply has more than {MAX_REPLY_BYTES} bytes")
        yield chunk
