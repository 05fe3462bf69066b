"""A batch API of OpenAI's form on this machine, which can go wrong in all ways."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback import ByRequest, Loopback, Request, http


def answered(text: str, **choice: Any) -> dict[str, Any]:
    """A chat completion."""
    return {
        "choices": [{"message": {"content": text}, **choice}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7},
    }


class BatchService:
    """Answers requests of a :class:`Loopback`; a batch has ended after ``num_looks`` looks at it.

    ``faults`` is called with the method, the path and the answer of each request, and returns what
    is really sent, or None for that.
    """

    def __init__(self, server: Loopback) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.num_looks = 1
        self.end = "completed"
        self.reply: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: answered("fine")
        self.make_lines: Callable[[list[dict[str, Any]]], tuple[list[Any], list[Any]]] = (
            self._make_lines
        )
        self.faults: Callable[[str, str, bytes], bytes | None] = lambda *_: None
        self.chat: Callable[[Request], bytes] = lambda _: http(200, answered("live"))
        self.num_worked_on = 0
        """Requests that a model has worked on, which is what is paid for."""
        self._lock = threading.Lock()
        self.url = server.script(ByRequest(self._serve))

    def _serve(self, request: Request) -> bytes:
        with self._lock:
            parts = urlsplit(request.path)
            path = parts.path.removeprefix("/v1")
            answer = self._answered(request, path, parse_qs(parts.query))
            changed = self.faults(request.method, path, answer)
        return answer if changed is None else changed

    def _answered(self, request: Request, path: str, query: dict[str, list[str]]) -> bytes:
        match [request.method, *path.strip("/").split("/")]:
            case ["POST", "chat", "completions"]:
                self.num_worked_on += 1
                return self.chat(request)
            case ["POST", "files"]:
                return self._upload(request)
            case ["GET", "files", file_id, "content"]:
                if file_id not in self.files:
                    return http(404, {"error": {"message": "no such file"}})
                return http(200, self.files[file_id])
            case ["DELETE", "files", file_id]:
                self.deleted.append(file_id)
                return http(200, {"id": file_id, "deleted": True})
            case ["POST", "batches"]:
                return self._create(request.body)
            case ["GET", "batches"]:
                return self._list(query)
            case ["GET", "batches", batch_id]:
                if batch_id not in self.batches:
                    return http(404, {"error": {"message": "no such batch"}})
                return http(200, self._looked(self.batches[batch_id]))
        return http(404, {"error": {"message": "no such address"}})

    def _upload(self, request: Request) -> bytes:
        match = re.search(rb"boundary=(\S+)", request.raw_headers)
        assert match is not None
        boundary = match[1].strip(b'"')
        parts = request.body.split(b"--" + boundary)
        (content,) = [
            part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            for part in parts
            if b'filename="' in part.split(b"\r\n\r\n", 1)[0]
        ]
        assert any(part.rstrip().endswith(b"batch") for part in parts)
        file_id = f"file-in{len(self.files)}"
        self.files[file_id] = content
        return http(200, {"id": file_id, "object": "file", "bytes": len(content)})

    def _create(self, body: dict[str, Any]) -> bytes:
        assert body["endpoint"] == "/v1/chat/completions"
        assert body["completion_window"] == "24h"
        batch_id = f"batch_{len(self.batches)}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "status": "validating",
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "looks": 0,
        }
        return http(200, self.batches[batch_id])

    def _list(self, query: dict[str, list[str]]) -> bytes:
        items = list(reversed(self.batches.values()))
        if "after" in query:
            ids = [one["id"] for one in items]
            items = items[ids.index(query["after"][0]) + 1 :]
        page = items[:2]
        return http(200, {"object": "list", "data": page, "has_more": len(items) > len(page)})

    def _looked(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["looks"] <= self.num_looks or batch["status"] == self.end:
            return batch
        batch["status"] = self.end
        if self.end == "failed":
            errors = [{"code": "token_limit_exceeded", "message": "too many tokens wait"}]
            batch["errors"] = {"object": "list", "data": errors}
            return batch
        lines = [json.loads(one) for one in self.files[batch["input_file_id"]].splitlines()]
        for name, results in zip(("output", "error"), self.make_lines(lines), strict=True):
            if results:
                file_id = f"file-{name}-{batch['id']}"
                self.files[file_id] = b"".join(map(as_line, results))
                batch[f"{name}_file_id"] = file_id
        return batch

    def _make_lines(self, lines: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
        return [self.result(line) for line in reversed(lines)], []

    def result(self, line: dict[str, Any], status: int = 200, body: Any = None) -> dict[str, Any]:
        """A line of results."""
        if status == 200:
            self.num_worked_on += 1
        body = self.reply(line["body"]) if body is None else body
        return {
            "id": "batch_req_1",
            "custom_id": line["custom_id"],
            "response": {"status_code": status, "request_id": "r", "body": body},
            "error": None,
        }


def expired(line: dict[str, Any]) -> dict[str, Any]:
    """The line of a request that no model has worked on in time."""
    error = {"code": "batch_expired", "message": "This request could not be executed in time."}
    return {"id": "r", "custom_id": line["custom_id"], "response": None, "error": error}


def as_line(result: Any) -> bytes:
    return (result if isinstance(result, bytes) else json.dumps(result).encode()) + b"\n"
