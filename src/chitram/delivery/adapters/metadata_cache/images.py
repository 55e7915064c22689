"""Reading images through the caches: this process, then Valkey, then the database."""

from __future__ import annotations

import asyncio
import secrets
import time
from uuid import UUID

from chitram.delivery.adapters.metadata_cache.entries import FRESH_SECONDS, Found, Load, LocalEntries
from chitram.delivery.adapters.metadata_cache.epoch import KnownEpoch
from chitram.delivery.adapters.metadata_cache.shared import Known, SharedEntries, Turn
from chitram.delivery.adapters.metadata_cache.statistics import Statistics
from chitram.delivery.ports import ReadImage, XCache
from chitram.images.public import ImageQueries, ImageView
from chitram.platform.valkey import ValkeyUnavailable

# How long to wait between looks for what another process has gone to fetch: 135 ms in all, which
# leaves room for one call that hangs within the 250 ms that Valkey may cost a request.
_PAUSES = (0.005, 0.01, *(0.02,) * 6)
_TOKEN_BYTES = 12


class CachedImages:
    """`ImageReads` through the caches."""

    def __init__(
        self,
        queries: ImageQueries,
        entries: LocalEntries,
        shared: SharedEntries,
        epoch: KnownEpoch,
        statistics: Statistics,
    ) -> None:
        self._queries = queries
        self._entries = entries
        self._shared = shared
        self._epoch = epoch
        self._statistics = statistics

    async def find(self, image_id: UUID) -> Found:
        now = time.monotonic()
        counts = self._statistics.counts
        if entry := self._entries.get(image_id, now):
            if entry[0] is None:
                counts.local_missing += 1
            else:
                counts.local_hits += 1
            return entry[0], XCache.HIT
        load = self._entries.running(image_id, now) or self._begin(image_id, now)
        if load.task is None:
            raise AssertionError("a load is started where it is made")
        # Whoever goes away does not take the load of the others along.
        found = await asyncio.shield(load.task)
        if found[1] is XCache.MISS:
            counts.misses += 1
        elif found[0] is None:
            counts.shared_missing += 1
        else:
            counts.shared_hits += 1
        return found

    def _begin(self, image_id: UUID, now: float) -> Load:
        """Start a load. What it finds is as old as the epoch that it relies on, or as itself."""
        reading = self._epoch.reading(now)
        epoch, since = reading or (None, now)
        load = Load(since + FRESH_SECONDS)
        self._entries.begin(image_id, load)
        load.task = asyncio.create_task(self._run(image_id, load, epoch))
        load.task.add_done_callback(_look_at_error)
        return load

    async def _run(self, image_id: UUID, load: Load, epoch: int | None) -> Found:
        try:
            found = await self._load(image_id, epoch)
        except BaseException:
            self._entries.abandon(image_id, load)
            raise
        self._entries.finish(image_id, load, found[0])
        return found

    async def _load(self, image_id: UUID, epoch: int | None) -> Found:
        if epoch is None:
            # It cannot be known whether the shared cache is still right.
            return _read(await self._fetch(image_id)), XCache.MISS
        token = secrets.token_bytes(_TOKEN_BYTES)
        try:
            answer = await self._look(image_id, epoch, token)
        except ValkeyUnavailable:
            self._statistics.counts.valkey_failures += 1
            answer = Turn.WAIT
        if isinstance(answer, Known):
            return _read(answer.view), XCache.HIT
        view = await self._fetch(image_id)
        if answer is Turn.FETCH:
            await self._fill(image_id, epoch, token, view)
        return _read(view), XCache.MISS

    async def _look(self, image_id: UUID, epoch: int, token: bytes) -> Known | Turn:
        """Look, and again while another has the lease; it may not take for ever."""
        answer = await self._shared.look(image_id, epoch, token)
        if answer is Turn.WAIT:
            self._statistics.counts.waits += 1
        until = time.monotonic() + sum(_PAUSES)
        for pause in _PAUSES:
            # A slow Valkey makes for fewer looks, not for a longer wait.
            if answer is not Turn.WAIT or time.monotonic() > until:
                break
            await asyncio.sleep(pause)
            answer = await self._shared.look(image_id, epoch, token)
        return answer

    async def _fetch(self, image_id: UUID) -> ImageView | None:
        self._statistics.counts.loads += 1
        return await self._queries.find(image_id)

    async def _fill(self, image_id: UUID, epoch: int, token: bytes, view: ImageView | None) -> None:
        try:
            filled = await self._shared.fill(image_id, epoch, token, view)
        except ValkeyUnavailable:
            self._statistics.counts.valkey_failures += 1
        else:
            self._statistics.counts.refused_fills += not filled


class DirectImages:
    """`ImageReads` without any cache."""

    def __init__(self, queries: ImageQueries) -> None:
        self._queries = queries

    async def find(self, image_id: UUID) -> Found:
        return _read(await self._queries.find(image_id)), XCache.DISABLED


def _read(view: ImageView | None) -> ReadImage | None:
    return ReadImage(view) if view else None


def _look_at_error(task: asyncio.Task[Found]) -> None:
    """Those who wait get the error; when nobody does, nobody needs to hear of it."""
    if not task.cancelled():
        task.exception()
