"""Making copies of an image unreadable, whatever is down."""

from __future__ import annotations

from uuid import UUID

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.statistics import Statistics
from chitram.delivery.adapters.metadata_cache.values import SharedImages
from chitram.kernel.versions import UNKNOWN
from chitram.platform.shared_cache.epoch import KnownEpoch
from chitram.platform.shared_cache.invalidation import SharedInvalidation


class CacheInvalidation:
    """`ImageCaches` over this process, Valkey and the cache epoch."""

    def __init__(
        self, entries: LocalEntries, shared: SharedImages, epoch: KnownEpoch, statistics: Statistics
    ) -> None:
        self._entries = entries
        self._shared = SharedInvalidation(shared, epoch, statistics.counts)

    async def invalidate(self, image_id: UUID, oldest: int) -> bool:
        self._entries.drop(image_id)
        try:
            if oldest == UNKNOWN:
                return await self._shared.suspect(image_id)
            return await self._shared.invalidate(image_id, oldest)
        finally:
            # A load may have begun meanwhile and found what was there before.
            self._entries.drop(image_id)

    async def invalidate_all(self) -> bool:
        raised = await self._shared.invalidate_all()
        self._entries.clear()
        return raised
