"""Reading images through the caches: this process, then Valkey, then the database."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from chitram.delivery.adapters.metadata_cache.entries import Found, Load, LocalEntries
from chitram.delivery.adapters.metadata_cache.statistics import Statistics
from chitram.delivery.adapters.metadata_cache.values import SharedImages
from chitram.delivery.ports import ReadImage, XCache
from chitram.images.public import ImageQueries, ImageView
from chitram.platform.shared_cache.epoch import FRESH_SECONDS, KnownEpoch
from chitram.platform.shared_cache.reading import SharedReads

# What is still asked for this long before it ends is asked for again meanwhile, so that a crowd does
# not wait for it: a look at Valkey takes several turns of a busy event loop.
AHEAD_SECONDS = 0.5


class CachedImages:
    """`ImageReads` through the caches."""

    def __init__(
        self,
        queries: ImageQueries,
        entries: LocalEntries,
        shared: SharedImages,
        epoch: KnownEpoch,
        statistics: Statistics,
    ) -> None:
        self._queries = queries
        self._entries = entries
        self._shared = SharedReads(shared, statistics.counts)
        self._epoch = epoch
        self._statistics = statistics
        self._running: set[asyncio.Task[Found]] = set()

    async def find(self, image_id: UUID) -> Found:
        now = time.monotonic()
        counts = self._statistics.counts
        if entry := self._entries.get(image_id, now):
            image, fresh_until = entry
            if fresh_until - now < AHEAD_SECONDS:
                self._renew(image_id, now, fresh_until)
            if image is None:
                counts.local_missing += 1
            else:
                counts.local_hits += 1
            return image, XCache.HIT
        load = self._entries.running(image_id, now)
        if load is None:
            if found := await self._peek(image_id, now):
                return found
            now = time.monotonic()
            load = self._entries.running(image_id, now) or self._begin(image_id, now)
        if load.task is None:
            raise AssertionError("a load is started where it is made")
        # Whoever goes away does not take the load of the others along.
        found = await asyncio.shield(load.task)
        if found[1] is XCache.MISS:
            counts.misses += 1
        else:
            self._count_shared(found[0])
        return found

    def _renew(self, image_id: UUID, now: float, fresh_until: float) -> None:
        """Load again what is remembered, unless that is under way or would be no fresher."""
        reading = self._epoch.reading(now)
        if reading is None or reading[1] + FRESH_SECONDS <= fresh_until:
            return
        if self._entries.running(image_id, now) is None:
            self._begin(image_id, now)

    async def _peek(self, image_id: UUID, now: float) -> Found | None:
        """What Valkey knows, asked for by each request itself: that takes less than to share it."""
        reading = self._epoch.reading(now)
        if reading is None:
            return None
        epoch, since = reading
        forgotten = self._entries.forgotten
        known = await self._shared.peek(image_id, epoch)
        if known is None:
            return None
        image = _read(known.value)
        self._entries.remember(image_id, image, since + FRESH_SECONDS, forgotten=forgotten)
        self._count_shared(image)
        return image, XCache.HIT

    def _count_shared(self, image: ReadImage | None) -> None:
        if image is None:
            self._statistics.counts.shared_missing += 1
        else:
            self._statistics.counts.shared_hits += 1

    def _begin(self, image_id: UUID, now: float) -> Load:
        """Start a load. What it finds is as old as the epoch that it relies on, or as itself."""
        reading = self._epoch.reading(now)
        epoch, since = reading or (None, now)
        load = Load(since + FRESH_SECONDS)
        self._entries.begin(image_id, load)
        load.task = asyncio.create_task(self._run(image_id, load, epoch))
        # Nobody may be waiting for it, and the loop alone would let it be collected.
        self._running.add(load.task)
        load.task.add_done_callback(self._ended)
        return load

    async def _run(self, image_id: UUID, load: Load, epoch: int | None) -> Found:
        try:
            found = await self._load(image_id, epoch)
        except BaseException:
            self._entries.abandon(image_id, load)
            raise
        self._entries.finish(image_id, load, found[0])
        return found

    def _ended(self, task: asyncio.Task[Found]) -> None:
        """Those who wait get the error; when nobody does, nobody needs to hear of it."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def _load(self, image_id: UUID, epoch: int | None) -> Found:
        view, known = await self._shared.load(image_id, epoch, lambda: self._queries.find(image_id))
        return _read(view), XCache.HIT if known else XCache.MISS


class DirectImages:
    """`ImageReads` without any cache."""

    def __init__(self, queries: ImageQueries) -> None:
        self._queries = queries

    async def find(self, image_id: UUID) -> Found:
        return _read(await self._queries.find(image_id)), XCache.DISABLED


def _read(view: ImageView | None) -> ReadImage | None:
    return ReadImage(view) if view else None
