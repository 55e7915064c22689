"""One connection to Valkey for the commands of many requests at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import libvalkey
from valkey.asyncio.connection import AbstractConnection, ConnectionPool
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import InvalidResponse, ResponseError

from chitram.platform.looks import LOOK_SECONDS, Limit, Looks

_NOTHING = object()


class _Asked(NamedTuple):
    answer: asyncio.Future[Any]
    seconds: float
    limit: Limit


class Pipe(asyncio.Protocol):
    """Sends what is asked in one turn of the event loop together, and reads the answers in their order.

    When the first of those who wait has waited too long, nobody is answered any more, and the
    connection is closed. Whoever goes away is answered nevertheless, to keep the order.

    Args:
        connection: of the pool and connected, with nothing under way.
        pool: where it comes from.
        run: which run of the server is at its other end.
    """

    def __init__(self, connection: AbstractConnection, pool: ConnectionPool, run: str) -> None:
        self.run = run
        self.is_open = True
        self._connection = connection
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._parser = libvalkey.Reader(
            replyError=ResponseError, protocolError=InvalidResponse, notEnoughData=_NOTHING
        )
        self._unsent: list[bytes] = []
        self._waiting: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looks = Looks()
        writer = connection._writer  # noqa: SLF001 - it has no other way to its transport
        if writer is None:
            raise ValkeyConnectionError("not connected")
        self._transport: asyncio.WriteTransport = writer.transport
        self._inherited = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def ask(self, words: tuple[str | bytes | int, ...], seconds: float) -> asyncio.Future[Any]:
        """Send a command soon.

        Its answer may be an error of the server, `ResponseError`. `TimeoutError` says that none came
        within `seconds`, or longer while the event loop was held up; other errors are `ValkeyError`
        and `OSError`.
        """
        answer = self._loop.create_future()
        if not self.is_open:
            answer.set_exception(ValkeyConnectionError("closed"))
            return answer
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(libvalkey.pack_command(words))
        self._waiting.append(_Asked(answer, seconds, self._looks.limit(seconds)))
        if self._timer is None:
            self._look_soon()
        return answer

    async def give_back(self) -> None:
        """Return the connection, closed."""
        self._break(ValkeyConnectionError("closed"))
        await self._connection.disconnect(nowait=True)
        await self._pool.release(self._connection)

    def data_received(self, data: bytes) -> None:
        """Part of the protocol of asyncio."""
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _NOTHING:
                answer = self._waiting.popleft().answer
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except (InvalidResponse, IndexError) as error:
            self._break(ValkeyConnectionError(f"not in step: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of the protocol of asyncio."""
        self._break(ValkeyConnectionError(f"lost: {exc}"))
        # Whoever closes the connection waits for the protocol that it had.
        self._inherited.connection_lost(exc)

    def _send(self) -> None:
        if self.is_open:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self, began: float) -> None:
        """See whether the first of those who wait has waited too long."""
        self._timer = None
        if not self._waiting:
            return
        self._looks.count(self._loop.time() - began)
        first = self._waiting[0]
        if self._looks.are_enough(first.limit):
            self._break(TimeoutError(f"no answer within {first.seconds} s"))
        else:
            self._look_soon()

    def _look_soon(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look, self._loop.time())

    def _break(self, error: Exception) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self._transport.abort()
        if self._timer:
            self._timer.cancel()
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(error)
