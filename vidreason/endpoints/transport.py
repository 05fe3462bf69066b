"""Transport under the ``openai`` package: few headers out, a body of bounded size in.

It knows the key, so that nothing above it does: neither the client's objects nor their exceptions.
"""

from contextlib import aclosing

import httpx2
from typing_extensions import override

from vidreason.endpoints.replies import BadReplyError

MAX_REPLY_BYTES = 4 * 2**20
"""Largest body of a reply, compressed and decompressed; a long answer has some 100 kB."""
MAX_FILE_BYTES = 128 * 2**20
"""Largest file that is downloaded: the results of a batch, which are read into memory."""
MAX_HEADER_BYTES = 64 * 2**10  # 64 KiB
_FILE_PATH = "/content"
"""End of the URLs of files, as OpenAI's form has them."""

_SENT = ("Host", "Content-Type", "Content-Length", "User-Agent")
"""The package adds particulars of the machine, and those of OPENAI_CUSTOM_HEADERS and OPENAI_ORG_ID
in the environment, which are meant for another endpoint."""
_KEPT = ("Location", "Retry-After", "Retry-After-Ms")


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests with the key, and reads each reply whole within :data:`MAX_REPLY_BYTES`.

    A downloaded file is read within :data:`MAX_FILE_BYTES`.

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
            BadReplyError: The reply is too large, or its compression was not requested.
            httpx2.TransportError: The network failed.
        """
        # Not a dictionary: the representation of Headers, which tools that report errors show with
        # the other variables of a frame, leaves the key out.
        headers = httpx2.Headers(
            {name: request.headers[name] for name in _SENT if name in request.headers}
        )
        # Compression is not asked for; a server that compresses all the same is read in _body.
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
            header_bytes = sum(len(name) + len(value) for name, value in response.headers.raw)
            if header_bytes > MAX_HEADER_BYTES:
                raise BadReplyError(f"the headers have more than {MAX_HEADER_BYTES} bytes")
            is_file = request.method == "GET" and request.url.path.endswith(_FILE_PATH)
            body = await _body(response, MAX_FILE_BYTES if is_file else MAX_REPLY_BYTES)
        finally:
            await response.aclose()
        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        return httpx2.Response(response.status_code, headers=kept, content=body)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    """Return the decompressed body.

    Raises:
        BadReplyError: It is too large, or of another compression than gzip and deflate.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "deflate"):
        raise BadReplyError(f"the reply is compressed as {coding!r}, which was not requested")
    body = bytearray()
    # httpx2 decompresses in pieces of bounded size.
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            # Decompressed and as received: either may be the larger one.
            if max(len(body), response.num_bytes_downloaded) > max_bytes:
                raise BadReplyError(f"the reply has more than {max_bytes} bytes")
    return bytes(body)
