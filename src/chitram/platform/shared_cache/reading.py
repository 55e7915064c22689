"""Reading through the shared cache: Valkey first, then the database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Generic
from uuid import UUID

from chitram.platform.shared_cache.codec import T
from chitram.platform.shared_cache.entries import Known, SharedEntries, Turn
from chitram.platform.shared_cache.tally import Tally
from chitram.platform.valkey import ValkeyUnavailable

# How long to wait between looks for what another process has gone to fetch: 135 ms in all, which
# leaves room for one call that hangs within the 250 ms that Valkey may cost a request.
_PAUSES = (0.005, 0.01, *(0.02,) * 6)
_TOKEN_BYTES = 12

Fetch = Callable[[], Awaitable[T | None]]


class SharedReads(Generic[T]):
    """Values of one sort, from Valkey or else from the database, one load for all processes.

    Args:
        shared: where they are remembered.
        tally: what is done is counted here.
    """

    def __init__(self, shared: SharedEntries[T], tally: Tally) -> None:
        self._shared = shared
        self._tally = tally

    async def find(self, key: UUID | str, epoch: int | None, fetch: Fetch[T]) -> tuple[T | None, bool]:
        """The value, or None when there is none; and whether Valkey knew. Raises what `fetch` does."""
        known = None if epoch is None else await self.peek(key, epoch)
        return (known.value, True) if known else await self.load(key, epoch, fetch)

    async def peek(self, key: UUID | str, epoch: int) -> Known[T] | None:
        """What Valkey knows; None when it knows nothing, or is away."""
        try:
            return await self._shared.peek(key, epoch)
        except ValkeyUnavailable:
            # It is counted by who asks on.
            return None

    async def load(self, key: UUID | str, epoch: int | None, fetch: Fetch[T]) -> tuple[T | None, bool]:
        """Do as `find` about what Valkey did not know just now.

        Without an epoch to rely on it cannot be known whether the shared cache is still right, and
        the database is asked, as `fetch` does.
        """
        if epoch is None:
            return await self._fetched(fetch), False
        token = secrets.token_bytes(_TOKEN_BYTES)
        try:
            answer = await self._look(key, epoch, token)
        except ValkeyUnavailable:
            self._tally.valkey_failures += 1
            answer = Turn.WAIT
        if isinstance(answer, Known):
            return answer.value, True
        value = await self._fetched(fetch)
        if answer is Turn.FETCH:
            await self._fill(key, epoch, token, value)
        return value, False

    async def _look(self, key: UUID | str, epoch: int, token: bytes) -> Known[T] | Turn:
        """Look, and again while another has the lease; it may not take for ever."""
        answer = await self._shared.look(key, epoch, token)
        if answer is Turn.WAIT:
            self._tally.waits += 1
        until = time.monotonic() + sum(_PAUSES)
        for pause in _PAUSES:
            # A slow Valkey makes for fewer looks, not for a longer wait.
            if answer is not Turn.WAIT or time.monotonic() > until:
                break
            await asyncio.sleep(pause)
            answer = await self._shared.look(key, epoch, token)
        return answer

    async def _fetched(self, fetch: Fetch[T]) -> T | None:
        self._tally.loads += 1
        return await fetch()

    async def _fill(self, key: UUID | str, epoch: int, token: bytes, value: T | None) -> None:
        try:
            filled = await self._shared.fill(key, epoch, token, value)
        except ValkeyUnavailable:
            self._tally.valkey_failures += 1
        else:
            self._tally.refused_fills += not filled
