"""An HTTP server on this machine that answers what a test says, byte for byte, and as slowly."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "sk-Zq7/w3+Tr9_vK2xB8mN4"
"""A key of no service; with characters that addresses and base64 write in another way."""

Connection = socket.socket


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    raw_headers: bytes
    body: Any
    """Parsed where it is JSON, else bytes."""
    method: str = "POST"


@dataclass(frozen=True)
class ByRequest:
    """An answer that depends on the request; it may take its time."""

    answer: Callable[[Request], bytes]


Answer = bytes | ByRequest | Callable[[Connection, threading.Event], None]


class Loopback:
    """Answers the requests in turn, the last answer again and again; a connection each.

    An answer that is a function writes to the connection itself; its event is set when it is to
    end.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: Sequence[Answer] = ()
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def script(self, *answers: Answer) -> str:
        """Set what is answered from now on, and forget the requests; gives the base URL."""
        self._done.set()  # ends the answers of the test before
        self._done = threading.Event()
        self.requests, self._answers = [], answers
        return self.url

    def close(self) -> None:
        self._done.set()
        # Else accept() may go on waiting in its thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                connection.settimeout(10)
                request = _read_request(connection)
                if request is None:
                    return
                done, answers = self._done, self._answers
                self.requests.append(request)
                answer = answers[min(len(self.requests), len(answers)) - 1]
                if isinstance(answer, ByRequest):
                    connection.sendall(answer.answer(request))
                elif isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection, done)
            except OSError:
                return  # the client has gone, which is what many tests are about


def http(status: int = 200, body: Any = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer; what is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Reason", *headers, "Connection: close"]
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def reply(content: Any, **choice: Any) -> bytes:
    """An answer in the chat-completions form."""
    message = {"role": "assistant", "content": content} | choice.pop("message", {})
    return http(200, {"choices": [{"message": message} | choice]})


def _read_request(connection: Connection) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    is_json = not headers.get("content-type", "").startswith("multipart/")
    return Request(path, headers, head, json.loads(body or b"null") if is_json else body, method)
