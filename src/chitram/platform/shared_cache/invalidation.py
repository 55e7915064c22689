"""Making what is remembered in Valkey unreadable, whatever is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Generic
from uuid import UUID

import structlog

from chitram.kernel.errors import DatabaseUnavailable
from chitram.kernel.versions import UNKNOWN
from chitram.platform.shared_cache.codec import T
from chitram.platform.shared_cache.entries import SharedEntries
from chitram.platform.shared_cache.epoch import KnownEpoch
from chitram.platform.shared_cache.tally import Tally
from chitram.platform.valkey import ValkeyUnavailable

# Of the 5 seconds in which a client is answered, most may have gone into the commit.
_DATABASE_SECONDS = 1.0

_log = structlog.get_logger("chitram.cache")


class SharedInvalidation(Generic[T]):
    """Invalidations of one sort of values, in Valkey or else by the cache epoch; never raises."""

    def __init__(self, shared: SharedEntries[T], epoch: KnownEpoch, tally: Tally) -> None:
        self._shared = shared
        self._epoch = epoch
        self._tally = tally

    async def invalidate(self, key: UUID | str, oldest: int) -> bool:
        """Make what is remembered unreadable; false when that is not confirmed.

        To be called after the commit. Values of a version before `oldest` are refused for a while
        even from those who ask the database later: where a replica may lag.
        """
        self._tally.invalidations += 1
        # The epoch is read after the commit: a process that knows a later one has asked the
        # database later too. One that knows only an earlier one will not rely on it for long.
        epoch = await _in_time(self._epoch.read())
        confirmed = await self._tell_valkey(key, epoch or self._epoch.latest, oldest)
        if confirmed and epoch is not None:
            return True
        return await self._raise_epoch(str(key))

    async def suspect(self, key: UUID | str) -> bool:
        """Have a value that may be outdated read anew where that is easy; nothing is promised."""
        self._tally.invalidations += 1
        return await self._tell_valkey(key, self._epoch.latest, UNKNOWN)

    async def _tell_valkey(self, key: UUID | str, epoch: int, oldest: int) -> bool:
        try:
            await self._shared.invalidate(key, epoch, oldest)
        except ValkeyUnavailable:
            self._tally.valkey_failures += 1
            return False
        return True

    async def invalidate_all(self) -> bool:
        """Make every value of every sort unreadable; false when that is not confirmed."""
        return await self._raise_epoch("all")

    async def _raise_epoch(self, keys: str) -> bool:
        """Make every key unreadable. What fails stays owed: this process trusts no key until then."""
        if await _in_time(self._epoch.raise_epoch()) is None:
            self._epoch.owe_raise()
            _log.warning("invalidation not confirmed", keys=keys)
            return False
        self._tally.epoch_raises += 1
        return True


async def _in_time(asking: Awaitable[int]) -> int | None:
    """What the database answers, or None when it does not in time."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await asking
    except (DatabaseUnavailable, TimeoutError):
        return None
