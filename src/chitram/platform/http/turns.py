"""Reads give way to what takes many turns of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

# Measured beside others: docs/benchmarks/tried/mixed.md.
READS_IN_A_TURN = 24
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ReadsGiveWay:
    """ASGI layer: while a request of another method is under way, few reads begin in each turn of the loop.

    A read whose image is at hand is answered in one turn, an upload comes back to the loop ten times,
    and each turn is as long as all that is ready. With hundreds of clients that read, an upload would
    wait ten times for every one of them. So reads beyond `READS_IN_A_TURN` wait here, in the order in
    which they came: not longer than they would for their processor, but outside of the turns of others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._others = 0
        self._begun = 0
        self._end_is_due = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP:
            return self._app(scope, receive, send)
        if scope["method"] not in _SAFE_METHODS:
            return self._do_other(scope, receive, send)
        if not self._others or self._may_begin():
            return self._app(scope, receive, send)
        return self._read_later(scope, receive, send)

    async def _do_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._others += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._others -= 1

    async def _read_later(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn
        await self._app(scope, receive, send)

    def _may_begin(self) -> bool:
        """Whether one more read may begin in this turn; counts it then."""
        if not self._end_is_due:
            self._end_is_due = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        # While any wait, as many as there may be have begun.
        if self._begun >= READS_IN_A_TURN:
            return False
        self._begun += 1
        return True

    def _end_turn(self) -> None:
        """Begin the reads of the next turn with those that have waited longest."""
        self._begun = 0
        while self._waiting and self._begun < READS_IN_A_TURN:
            turn = self._waiting.popleft()
            if not turn.done():  # Cancelled: its client has gone away.
                turn.set_result(None)
                self._begun += 1
        self._end_is_due = self._begun > 0
        if self._end_is_due:
            asyncio.get_running_loop().call_soon(self._end_turn)
