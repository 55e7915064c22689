"""The metadata cache of several processes, side by side in one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
from valkey.asyncio import Valkey

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.images import CachedImages
from chitram.delivery.adapters.metadata_cache.invalidation import CacheInvalidation
from chitram.delivery.adapters.metadata_cache.statistics import Counts, Statistics
from chitram.delivery.adapters.metadata_cache.values import shared_images
from chitram.images.public import ImageView
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import Epochs, KnownEpoch
from chitram.platform.valkey import RunCommand, ValkeyGuard, make_valkey

LIFE_SECONDS = 60

_T = TypeVar("_T")


class FakeEpochs:
    """An epoch in memory, proved equal to the row by tests/cache/test_epoch.py."""

    def __init__(self) -> None:
        self.epoch = 1
        self.away = False

    async def read(self) -> int:
        if self.away:
            raise DatabaseUnavailable
        return self.epoch

    async def raise_epoch(self) -> int:
        await self.read()
        self.epoch += 1
        return self.epoch


class Rows:
    """Image rows in memory: counts how often they are asked for, and can keep those who ask waiting."""

    def __init__(self) -> None:
        self.views: dict[UUID, ImageView] = {}
        self.asked = 0
        self.away = False
        self._open = asyncio.Event()
        self._open.set()
        self.waiting = asyncio.Event()

    def add(self) -> UUID:
        view = a_view()
        self.views[view.id] = view
        return view.id

    def change(self, image_id: UUID, **fields: object) -> ImageView:
        old = self.views[image_id]
        self.views[image_id] = msgspec.structs.replace(old, version=old.version + 1, **fields)
        return self.views[image_id]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is asked for in this block is read at once, but answered at its end."""
        self._open.clear()
        self.waiting.clear()
        try:
            yield
        finally:
            self._open.set()

    async def find(self, image_id: UUID) -> ImageView | None:
        self.asked += 1
        if self.away:
            raise DatabaseUnavailable
        found = self.views.get(image_id)
        self.waiting.set()
        await self._open.wait()
        return found


class PatientGuard(ValkeyGuard):
    """A guard whose patience a busy machine does not use up."""

    async def call(self, work: Callable[[Valkey], Awaitable[_T]], *, seconds: float) -> _T:
        return await super().call(work, seconds=5 * seconds)

    async def ask_on_run(self, command: RunCommand, *, seconds: float) -> Any:
        return await super().ask_on_run(command, seconds=5 * seconds)


class CacheProcess:
    """What one process has of the cache."""

    def __init__(self, rows: Rows, epochs: Epochs, url: str, seconds: int = LIFE_SECONDS) -> None:
        self.client = make_valkey(Settings(valkey_url=url))
        self.guard = PatientGuard(self.client, open_seconds=0.1)
        self.entries = LocalEntries()
        self.shared = shared_images(self.guard, seconds)
        self.epoch = KnownEpoch(epochs)
        self.statistics = Statistics(self.guard)
        self.images = CachedImages(rows, self.entries, self.shared, self.epoch, self.statistics)
        self.caches = CacheInvalidation(self.entries, self.shared, self.epoch, self.statistics)

    @property
    def counts(self) -> Counts:
        return self.statistics.counts

    async def sees(self, image_id: UUID) -> ImageView | None:
        image, _ = await self.images.find(image_id)
        return image.view if image else None

    async def aclose(self) -> None:
        await self.client.aclose()


def a_view() -> ImageView:
    now = datetime.now(UTC)
    return ImageView(
        id=uuid4(),
        blob_id=uuid4(),
        shard="default",
        owner_id=None,
        filename="photo.jpg",
        content_type="image/jpeg",
        file_size=1,
        width=4,
        height=3,
        checksum="00" * 32,
        visibility="unlisted",
        expires_at=None,
        created_at=now,
        updated_at=now,
        version=1,
        processing="ready",
        optimised=True,
    )
