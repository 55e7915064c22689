"""A TCP relay that can fail the ways networks and servers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Self
from urllib.parse import urlsplit, urlunsplit

# Turns of the event loop from a connection to the call of who serves it. A server of asyncio that
# is closed in between leaves the connection open.
_ACCEPT_TURNS = 4


class Mode(Enum):
    """How the relay behaves."""

    PASS = auto()
    HANG = auto()  # accepts and takes bytes, never answers
    CUT = auto()  # closes connections at once
    LOSE_MESSAGES = auto()  # what Valkey publishes never arrives, all else does
    HANG_AT_COMMIT = auto()  # from COMMIT on nothing comes back
    LOSE_COMMIT_ANSWER = auto()  # delivers COMMIT, cuts before its answer comes back


class Proxy:
    """Relays 127.0.0.1 to the server of a URL; `url` is that URL through the relay.

    `watch` is shown what comes from clients, before the server gets it. Answers come back
    `delay_seconds` late.
    """

    def __init__(self, target_url: str, watch: Callable[[bytes], None] = lambda _: None) -> None:
        self._target = urlsplit(target_url)
        self._watch = watch
        self.mode = Mode.PASS
        self.delay_seconds = 0.0
        # For `LOSE_COMMIT_ANSWER`: how many answers arrive before one is lost, and how it goes on.
        self.answers_to_pass = 0
        self.after_loss = Mode.LOSE_COMMIT_ANSWER
        self._server: asyncio.Server | None = None
        self._closed = False
        self.accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closed = True
        for _turn in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        credentials = self._target.netloc.rpartition("@")[0]
        netloc = f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"
        return urlunsplit(self._target._replace(netloc=netloc))

    def cut_all(self) -> None:
        """Close every connection there is."""
        for writer in list(self._writers):
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._closed:
            # It was on its way when the relay ended.
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also when it is cancelled before it has begun, or while it connects.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.CUT:
            writer.close()
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
        except OSError:  # the server is gone, and so is its end of this connection
            writer.close()
            return
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(
                self._forward(reader, upstream, writer, from_client=True),
                self._forward(upstream_reader, writer, writer, from_client=False),
            )
        finally:
            for end in (writer, upstream):
                self._writers.discard(end)
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        *,
        from_client: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if from_client:
                    self._watch(data)
                if self.mode is Mode.HANG:
                    continue
                if self.mode is Mode.CUT:
                    break
                if self.mode is Mode.LOSE_MESSAGES and b"\r\nmessage\r\n" in data:
                    continue
                if self.mode is Mode.HANG_AT_COMMIT and from_client and b"COMMIT" in data:
                    self.mode = Mode.HANG
                    continue
                if self.mode is Mode.LOSE_COMMIT_ANSWER and not from_client and b"COMMIT" in data:
                    if not self.answers_to_pass:
                        # The server says that it has committed; the client never hears of it.
                        client.close()
                        self.mode = self.after_loss
                        break
                    self.answers_to_pass -= 1
                if not from_client and self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.close()
