"""Both ends of an ASGI exchange, played by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, cast

from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive

from chitram.kernel.errors import StorageUnavailable

Ending = Literal["end", "disconnect", "silence"]


class Sender:
    """A client that sends `pieces` and then ends its body, goes away, or falls silent.

    After the end of its body it waits, as a client does for its answer.
    """

    def __init__(self, pieces: Iterable[bytes], then: Ending = "end") -> None:
        self.asked = 0
        self._pieces: Iterator[bytes] = iter(pieces)
        self._then = then

    async def __call__(self) -> HTTPReceiveMessage:
        self.asked += 1
        piece = next(self._pieces, None)
        if piece is not None:
            return {"type": "http.request", "body": piece, "more_body": True}
        if self._then == "disconnect":
            return {"type": "http.disconnect"}
        if self._then == "silence":
            await asyncio.Event().wait()
        self._then = "silence"
        return {"type": "http.request", "body": b"", "more_body": False}


def sender(*pieces: bytes, then: Ending = "end") -> Receive:
    return Sender(pieces, then)


class Receiver:
    """A client that takes everything it is sent; `stall_after` bytes it takes no more."""

    def __init__(self, stall_after: int | None = None) -> None:
        self.messages: list[Message] = []
        self.body = b""
        self.complete = False
        self._stall_after = stall_after

    async def __call__(self, message: Message) -> None:
        assert not self.complete
        if message["type"] == "http.response.body":
            if self._stall_after is not None and len(self.body) >= self._stall_after:
                await asyncio.Event().wait()
            self.body += message["body"]
            self.complete = not message["more_body"]
        self.messages.append(message)

    @property
    def status(self) -> int | None:
        for message in self.messages:
            if message["type"] == "http.response.start":
                return message["status"]
        return None

    @property
    def headers(self) -> dict[str, str]:
        start = self.messages[0]
        assert start["type"] == "http.response.start"
        return {name.decode(): value.decode() for name, value in start["headers"]}


class StoredObject:
    """An object in memory that counts its reads; `fail_from` is where it cannot be read on."""

    def __init__(self, content: bytes, *, fail_from: int | None = None) -> None:
        self.content = content
        self.reads: list[tuple[int, int]] = []
        self.opened = 0
        self.is_open = False
        self._fail_from = fail_from

    async def open(self, _: object = None) -> StoredObject:
        self.opened += 1
        self.is_open = True
        return self

    @property
    def size(self) -> int:
        return len(self.content)

    async def read(self, offset: int, length: int) -> bytes:
        assert self.is_open
        self.reads.append((offset, length))
        if self._fail_from is not None and offset + length > self._fail_from:
            raise StorageUnavailable
        return self.content[offset : offset + length]

    async def aclose(self) -> None:
        self.is_open = False


def scope_of(method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = ()) -> HTTPScope:
    return cast(
        "HTTPScope",
        {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": list(headers)},
    )


def open_files_in(directory: Path) -> int:
    """How many files below `directory` this process holds open, nameless ones included."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += entry.readlink().is_relative_to(directory)
        except FileNotFoundError:
            continue
    return count


def open_spools() -> int:
    """How many spools this process holds open in memory."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("/memfd:spool")
    return count


def split(data: bytes, points: Iterable[int]) -> list[bytes]:
    """Cut `data` at `points`, in any order; points beyond its end cut nothing."""
    cuts = [0, *sorted(points), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(cuts) if start < end]
