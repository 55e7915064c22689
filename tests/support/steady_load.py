"""Requests at a steady rate, and what came of them; on bare connections, for httpx is slow."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_ANSWER_SECONDS = 30
# The server closes what has been idle for 15 s; a request sent in that moment would be lost.
_IDLE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a load; `kind` is what it is counted as."""

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: when its request began (monotonic), how long it took, what it said.

    `status` is 0 when there was no answer, and `code` is that of an error.
    """

    kind: str
    path: str
    began: float
    seconds: float
    status: int
    x_cache: str = ""
    code: str = ""


class Client:
    """Keeps connections to one server and asks on whichever is free."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _used, _reader, writer in self._free:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, request: Request) -> Sample:
        """Send a request and wait for the whole answer; never raises."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, headers, body = await self._exchange(request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            return Sample(
                request.kind, request.path, began, time.monotonic() - began, 0, code=type(error).__name__
            )
        code = ""
        if status >= 400 and b'"code":"' in body:
            code = body.partition(b'"code":"')[2].partition(b'"')[0].decode()
        return Sample(
            request.kind,
            request.path,
            began,
            time.monotonic() - began,
            status,
            headers.get("x-cache", ""),
            code,
        )

    async def _exchange(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self._connection()
        try:
            writer.write(_head(request, self._host) + request.body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except BaseException:
            writer.close()
            raise
        self._free.append((time.monotonic(), reader, writer))
        return int(head[0].split(" ")[1]), headers, body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            used, reader, writer = self._free.pop()
            if time.monotonic() - used < _IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)


def _head(request: Request, host: str) -> bytes:
    lines = [
        f"{request.method} {request.path} HTTP/1.1",
        f"host: {host}",
        f"content-length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in request.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class SteadyLoad:
    """Asks for what `requests` yields, `rate` times a second, however slow the answers are."""

    client: Client
    requests: Iterator[Request]
    rate: float
    samples: list[Sample] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask for the length of the block, and wait for the last answer."""
        asking = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    async def _ask(self) -> None:
        began, sent = time.monotonic(), 0
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._one(next(self.requests)))
                    sent += 1
                    await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))
        except asyncio.CancelledError:
            pass

    async def _one(self, request: Request) -> None:
        self.samples.append(await self.client.ask(request))

    def between(self, begin: float, end: float) -> list[Sample]:
        """Samples of requests that began in this time."""
        return [sample for sample in self.samples if begin <= sample.began < end]


def quantile(samples: Sequence[Sample], share: float) -> float:
    """Seconds within which this share of the answers came."""
    ordered = sorted(sample.seconds for sample in samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
