"""What nobody has checked yet, in the object stores: apart from blobs, by its key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from uuid import UUID

from chitram.images.adapters.spooled import copy_to_spool
from chitram.images.domain.content import Received, Slice, stored_chunks
from chitram.images.domain.errors import UploadNotReceived
from chitram.images.domain.keys import QUARANTINE, quarantine_key, upload_of_key
from chitram.images.ports import QuarantinedObject
from chitram.kernel.errors import FileTooLarge, StorageUnavailable
from chitram.platform.objects.base import ObjectNotFound, ObjectStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.spool import Spool


class ObjectQuarantine:
    """Keeps unchecked uploads in the configured object stores, new ones in the first."""

    def __init__(self, stores: ObjectStores, spool_directory: Path) -> None:
        self._stores = stores
        self._spool_directory = spool_directory

    @property
    def shard(self) -> str:
        return self._stores.primary.name

    @property
    def shards(self) -> Collection[str]:
        return [store.name for store in self._stores]

    async def address(self, upload_id: UUID, shard: str, seconds: int) -> str | None:
        store = self._store(shard)
        # An address is made without asking the store, and one that leads nowhere is no help.
        await store.check()
        return await store.presign("PUT", quarantine_key(upload_id), seconds)

    async def put(self, upload_id: UUID, shard: str, received: Received) -> None:
        chunks = stored_chunks(received, (Slice(0, received.size),))
        await self._store(shard).put(quarantine_key(upload_id), chunks, received.size)

    @contextlib.asynccontextmanager
    async def fetch(
        self, upload_id: UUID, shard: str, *, limit: int, seconds: float
    ) -> AsyncIterator[Received]:
        with Spool(self._spool_directory) as spool:
            try:
                async with asyncio.timeout(seconds):
                    await self._copy(upload_id, shard, spool, limit)
            except ObjectNotFound:
                raise UploadNotReceived from None
            except TimeoutError:
                raise StorageUnavailable("The image store did not answer in time.") from None
            yield spool

    async def _copy(self, upload_id: UUID, shard: str, spool: Spool, limit: int) -> None:
        # What is open is one version of the object, whatever is put there meanwhile.
        source = await self._store(shard).open(quarantine_key(upload_id))
        try:
            if source.size > limit:
                raise FileTooLarge(limit)
            await copy_to_spool(source, spool)
        finally:
            await source.aclose()

    async def delete(self, upload_id: UUID, shard: str) -> None:
        await self._store(shard).delete(quarantine_key(upload_id))

    async def list(self, shard: str) -> AsyncIterator[QuarantinedObject]:
        async for found in self._store(shard).list(QUARANTINE):
            if upload_id := upload_of_key(found.key):
                yield QuarantinedObject(upload_id, found.size, found.modified)

    def _store(self, shard: str) -> ObjectStore:
        return self._stores.by_name(shard)
