"""A teacher that answers from the event log, with errors that a test plants: one server process.

It knows a clip by the hash of the pictures of its request. ``python scripted_teacher.py FILE``
serves the answers of a JSON file, by hash, on a port that it prints; it imports no part of the
project, so that it starts at once.
"""

import base64
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

PROMPT_TOKENS = 700
USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 90}


def picture_hash(body) -> str:
    """Hash of all pictures of a request's body; of none, that of no bytes."""
    digest = hashlib.sha256()
    for message in body["messages"]:
        if isinstance(message["content"], str):
            continue
        for part in message["content"]:
            if part["type"] == "image_url":
                digest.update(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers requests of the chat-completions form."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, dict]] = {}

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        greeting = {"message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
        answer = self.answers.get(picture_hash(body), {"choice": greeting})
        if "error" in answer:
            status, content = answer["status"], {"error": answer["error"]}
        else:
            status, content = 200, {"choices": [answer["choice"]], "usage": USAGE}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing is logged."""


def main():
    Handler.answers = json.loads(Path(sys.argv[1]).read_text())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
