"""A client that may misbehave."""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 1_000_000
SECONDS = 0.5
SIZES = {"small": 1000, "large": 16_100_000}
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """Where the server listens, and the directory it works in."""

    port: int
    directory: Path

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", self.port))
        connection.settimeout(_PATIENCE_SECONDS)
        return connection

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)

    def open_files(self) -> dict[str, int]:
        counts: dict[str, int] = self.asked("/open")
        return counts

    def memory(self) -> int:
        """Bytes that the server holds."""
        return int(self.asked("/memory"))

    def asked(self, path: str) -> Any:
        client = self.client()
        client.request("GET", path)
        found = json.loads(client.getresponse().read())
        client.close()
        return found

    def wait_until_open(self, **expected: int) -> float:
        """Wait until the server holds so many files open; say for how long, in seconds."""
        started = time.monotonic()
        while (counts := self.open_files()) | expected != counts:
            assert time.monotonic() - started < _PATIENCE_SECONDS, counts
            time.sleep(0.01)
        return time.monotonic() - started


def post(path: str, *headers: str) -> bytes:
    """The head of a request with a body."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response(connection: socket.socket) -> tuple[int, Any]:
    """Read one answer: its status and its JSON."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def code(connection: socket.socket) -> tuple[int, str]:
    """Read one refusal: its status and its code."""
    status, body = response(connection)
    return status, body["error"]["code"]
