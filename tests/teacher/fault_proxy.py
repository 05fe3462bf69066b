"""A proxy that harms what goes through it, by a seeded plan; a process of its own.

``python fault_proxy.py PORT LOG SEED RATE`` stands before the teacher at PORT and prints its own
port. Of all requests the share RATE gets one of :data:`FAULTS`. Each request is a row of LOG, a
JSON object a line: its pictures, its fault, whether the teacher was asked, the usage that the
teacher counted, and whether its answer was sent on to the last byte.
"""

import http.client
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripted_teacher import picture_hash

FAULTS = ("429", "500", "invalid", "drip", "truncated", "reset", "large")
"""Answers without the teacher: too many requests, an error, no JSON, 10 MB. With it: a byte at a
time, half of it, and a connection that is reset before the answer."""
NOT_FORWARDED = ("429", "500", "invalid", "large")
NOT_DELIVERED = ("truncated", "reset")


class Proxy(BaseHTTPRequestHandler):
    """Forwards requests, or harms them."""

    protocol_version = "HTTP/1.1"
    upstream = 0
    log = 0
    rate = 0.0
    plan = random.Random(0)
    lock = threading.Lock()

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        data = self.rfile.read(length)
        if len(data) < length:
            return  # the client was killed meanwhile
        with self.lock:
            fault = self.plan.choice(FAULTS) if self.plan.random() < self.rate else ""
        row = {"pictures": picture_hash(json.loads(data)), "fault": fault, "usage": None}
        row["forwarded"] = fault not in NOT_FORWARDED
        row["key"] = "secret" if self.headers.get("Authorization") else ""
        try:
            if fault in NOT_FORWARDED:
                self._refuse(fault)
            else:
                status, content = self._ask(data)
                row["status"] = status
                row["usage"] = json.loads(content).get("usage")
                self._deliver(fault, status, content)
            row["delivered"] = fault not in (*NOT_FORWARDED, *NOT_DELIVERED)
        except OSError:
            row["delivered"] = False  # the client has gone
        os.write(self.log, json.dumps(row).encode() + b"\n")

    def _ask(self, data):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        try:
            connection.request("POST", self.path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _refuse(self, fault):
        if fault == "429":
            self._head(429, 2, "Retry-After-Ms: 20")
            self.wfile.write(b"{}")
        elif fault == "500":
            self._head(500, 2)
            self.wfile.write(b"{}")
        elif fault == "large":
            self._head(200, 10 * 2**20)
            for _ in range(160):
                self.wfile.write(b"[" * 2**16)
        else:
            self._head(200, 14)
            self.wfile.write(b'{"choices": [{')

    def _deliver(self, fault, status, content):
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Without a goodbye: other references to the socket would keep it open.
            socket.close(self.connection.detach())
            self.close_connection = True
            return
        self._head(status, len(content))
        if fault == "truncated":
            self.wfile.write(content[: len(content) // 2])
        elif fault == "drip":
            step = max(len(content) // 8, 1)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(0.005)
        else:
            self.wfile.write(content)

    def _head(self, status, length, *headers):
        lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {length}", *headers]
        self.wfile.write("\r\n".join([*lines, "Connection: close"]).encode() + b"\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_):
        """Nothing is logged but the rows."""


class Server(ThreadingHTTPServer):
    """Takes clients that go away as they come."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    Proxy.upstream, Proxy.rate = int(sys.argv[1]), float(sys.argv[4])
    Proxy.log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    Proxy.plan = random.Random(int(sys.argv[3]))
    server = Server(("127.0.0.1", 0), Proxy)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
