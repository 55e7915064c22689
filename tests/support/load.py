"""Load for measurements, from processes of its own and as cheap as Python allows.

As a program: `python -m tests.support.load upload|read HOST PORT CONNECTIONS SECONDS TARGET`, where
TARGET is the file to upload, its JFIF density changed for each, or the path to read. It prints what it
saw as JSON when the time is over.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import uvloop

# How often each connection reads: more would be a load of its own.
READ_EVERY_SECONDS = 0.02
_LONGEST_WAIT_SECONDS = 2.0


class Seen(msgspec.Struct):
    """What a load saw.

    Attributes:
        statuses: how often each status was answered; 0 is a connection that broke.
        codes: how often each error code was answered.
        seconds: how long each answer that was no refusal took.
        ends: when each of these came, by the clock of `time.monotonic`.
    """

    statuses: dict[int, int] = {}
    codes: dict[str, int] = {}
    seconds: list[float] = []
    ends: list[float] = []

    def note(self, status: int, body: bytes, began: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status in {200, 201}:
            self.ends.append(time.monotonic())
            self.seconds.append(self.ends[-1] - began)
        elif status:
            code = json.loads(body)["error"]["code"]
            self.codes[code] = self.codes.get(code, 0) + 1

    def percentile(self, percent: float) -> float:
        """The time in seconds within which so many percent of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def longest_gap(self, began: float, ended: float) -> float:
        """The longest time in seconds without an answer."""
        moments = [began, *sorted(self.ends), ended]
        return max(after - before for before, after in pairwise(moments))


class Load:
    """A process that makes load."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, kind: str, host: tuple[str, int], connections: int, seconds: float, target: str | Path
    ) -> Load:
        arguments = (kind, *host, connections, seconds, target)
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.support.load"),
                *(str(each) for each in arguments),
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
        )

    async def seen(self) -> Seen:
        """Wait for its end."""
        output, _ = await self._process.communicate()
        return msgspec.json.decode(output, type=Seen, strict=False)


class _Connection:
    """One kept connection, opened again when it breaks."""

    def __init__(self, host: tuple[str, int]) -> None:
        self._host = host
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()

    async def exchange(self, *pieces: bytes | memoryview) -> tuple[int, bytes, int]:
        """Send a request; return status (0 when the connection broke), body, Retry-After."""
        try:
            if self._socket is None:
                self._socket = socket.socket()
                self._socket.setblocking(False)  # noqa: FBT003 - positional only
                await self._loop.sock_connect(self._socket, self._host)
            for piece in pieces:
                await self._loop.sock_sendall(self._socket, piece)
            return await self._answer(self._socket)
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            return 0, b"", 1

    async def _answer(self, connection: socket.socket) -> tuple[int, bytes, int]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._some(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += await self._some(connection)
        return int(head[9:12]), body, int(fields.get(b"retry-after", 0))

    async def _some(self, connection: socket.socket) -> bytes:
        data = await self._loop.sock_recv(connection, 65536)
        if not data:
            raise ConnectionResetError
        return data


async def _upload(connection: _Connection, seen: Seen, content: bytes) -> None:
    head = f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    start, rest = head + content[:14], memoryview(content)[18:]
    began = time.monotonic()
    number = struct.pack(">I", secrets.randbits(32))
    status, body, retry_after = await connection.exchange(start + number, rest)
    seen.note(status, body, began)
    if status != 201:
        await asyncio.sleep(min(retry_after, _LONGEST_WAIT_SECONDS))


async def _read(connection: _Connection, seen: Seen, request: bytes) -> None:
    began = time.monotonic()
    status, body, _ = await connection.exchange(request)
    seen.note(status, body, began)
    await asyncio.sleep(READ_EVERY_SECONDS)


async def _run(
    host: tuple[str, int],
    connections: int,
    seconds: float,
    step: Callable[[_Connection, Seen], Awaitable[None]],
) -> Seen:
    seen = Seen()
    deadline = time.monotonic() + seconds

    async def repeat() -> None:
        connection = _Connection(host)
        while time.monotonic() < deadline:
            await step(connection, seen)

    await asyncio.gather(*(repeat() for _ in range(connections)))
    return seen


def _main(kind: str, host: str, port: str, connections: str, seconds: str, target: str) -> None:
    if kind == "upload":
        content = Path(target).read_bytes()
        step = lambda connection, seen: _upload(connection, seen, content)  # noqa: E731 - one of two
    else:
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        step = lambda connection, seen: _read(connection, seen, request)  # noqa: E731 - one of two
    seen = uvloop.run(_run((host, int(port)), int(connections), float(seconds), step))
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    _main(*sys.argv[1:])
