"""A server that reads bodies and throws them away: how fast an upload client can be at most.

As a program: `python -m benchmarks.peers.sink PORT`. It answers every request with 201 once its body has
come, and does nothing else; it prints `ready` when it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import uvloop

from chitram.platform.embedded.ports import ReservedPort

_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


class _Sink(asyncio.BufferedProtocol):
    """One connection. Requests come one at a time, each with a Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray(256 * 1024)
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is none by its class.
        self._transport = cast("asyncio.WriteTransport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - of the protocol
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            self._left -= nbytes
        else:
            self._head += self._buffer[:nbytes]
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            self._left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(body)
        if not self._left:
            self._transport.write(_ANSWER)


@contextlib.asynccontextmanager
async def running_sink() -> AsyncIterator[tuple[str, int]]:
    """Run the program above while the block lasts; gives its address."""
    reserved = ReservedPort()
    port = reserved.number
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__, str(port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None  # noqa: S101 - asked for
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the sink does not listen")
        yield "127.0.0.1", port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with await loop.create_server(_Sink, "127.0.0.1", port):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
