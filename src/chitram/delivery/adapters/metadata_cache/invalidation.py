"""Making copies of an image unreadable, whatever is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import UUID

import structlog

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.epoch import KnownEpoch
from chitram.delivery.adapters.metadata_cache.shared import SharedEntries
from chitram.delivery.adapters.metadata_cache.statistics import Statistics
from chitram.images.public import UNKNOWN
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.valkey import ValkeyUnavailable

# Of the 5 seconds in which a client is answered, most may have gone into the commit.
_DATABASE_SECONDS = 1.0

_log = structlog.get_logger("chitram.cache")


class CacheInvalidation:
    """`ImageCaches` over this process, Valkey and the cache epoch."""

    def __init__(
        self, entries: LocalEntries, shared: SharedEntries, epoch: KnownEpoch, statistics: Statistics
    ) -> None:
        self._entries = entries
        self._shared = shared
        self._epoch = epoch
        self._statistics = statistics

    async def invalidate(self, image_id: UUID, oldest: int) -> bool:
        self._statistics.counts.invalidations += 1
        self._entries.drop(image_id)
        try:
            return await self._invalidate_shared(image_id, oldest)
        finally:
            # A load may have begun meanwhile and found what was there before.
            self._entries.drop(image_id)

    async def _invalidate_shared(self, image_id: UUID, oldest: int) -> bool:
        # The epoch is read after the commit: a process that knows a later one has read the image
        # later too. One that knows only an earlier one will not rely on it for long.
        epoch = None if oldest == UNKNOWN else await _in_time(self._epoch.read())
        confirmed = await self._tell_valkey(image_id, epoch or self._epoch.latest, oldest)
        if oldest == UNKNOWN or (confirmed and epoch is not None):
            return confirmed
        return await self._raise_epoch(str(image_id))

    async def _tell_valkey(self, image_id: UUID, epoch: int, oldest: int) -> bool:
        try:
            await self._shared.invalidate(image_id, epoch, oldest)
        except ValkeyUnavailable:
            self._statistics.counts.valkey_failures += 1
            return False
        return True

    async def invalidate_all(self) -> bool:
        raised = await self._raise_epoch("all")
        self._entries.clear()
        return raised

    async def _raise_epoch(self, images: str) -> bool:
        """Make every key unreadable. What fails stays owed: this process trusts no key until then."""
        if await _in_time(self._epoch.raise_epoch()) is None:
            self._epoch.owe_raise()
            _log.warning("invalidation not confirmed", images=images)
            return False
        self._statistics.counts.epoch_raises += 1
        return True


async def _in_time(asking: Awaitable[int]) -> int | None:
    """What the database answers, or None when it does not in time."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await asking
    except (DatabaseUnavailable, TimeoutError):
        return None
