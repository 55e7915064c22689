"""Blobs in the object stores: where the key of an object is decided."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from chitram.images.domain.content import Received
from chitram.images.domain.keys import BLOBS
from chitram.images.ports import StoredObject
from chitram.images.public import blob_key, blob_of_key
from chitram.platform.objects.base import ObjectNotFound
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.spool import Spool

_READ_BYTES = 256 * 1024
# Larger, for nothing has to be written between the reads.
_HASH_BYTES = 1024 * 1024


class ObjectBlobStore:
    """Keeps blobs in the configured object stores, new ones in the first."""

    def __init__(self, stores: ObjectStores, spool_directory: Path) -> None:
        self._stores = stores
        self._spool_directory = spool_directory

    @property
    def shard(self) -> str:
        return self._stores.primary.name

    @property
    def shards(self) -> Sequence[str]:
        return [store.name for store in self._stores]

    async def put(
        self, blob_id: UUID, shard: str, chunks: Iterable[bytes], size: int, media_type: str
    ) -> None:
        await self._stores.by_name(shard).put(blob_key(blob_id), chunks, size, media_type)

    async def size(self, blob_id: UUID, shard: str) -> int | None:
        found = await self._stores.by_name(shard).stat(blob_key(blob_id))
        return found.size if found else None

    async def sha256(self, blob_id: UUID, shard: str) -> bytes | None:
        try:
            source = await self._stores.by_name(shard).open(blob_key(blob_id))
        except ObjectNotFound:
            return None
        digest, offset = hashlib.sha256(), 0
        async with contextlib.aclosing(source):
            while chunk := await source.read(offset, _HASH_BYTES):
                await asyncio.to_thread(digest.update, chunk)
                offset += len(chunk)
        return digest.digest()

    @contextlib.asynccontextmanager
    async def fetch(self, blob_id: UUID, shard: str) -> AsyncIterator[Received]:
        source = await self._stores.by_name(shard).open(blob_key(blob_id))
        try:
            with Spool(self._spool_directory) as spool:
                while spool.size < source.size:
                    chunk = await source.read(spool.size, _READ_BYTES)
                    if not chunk:
                        raise LookupError("the object is shorter than its size says")
                    await spool.write(chunk)
                await spool.flush()
                yield spool
        finally:
            await source.aclose()

    async def delete(self, blob_id: UUID, shard: str) -> None:
        await self._stores.by_name(shard).delete(blob_key(blob_id))

    async def list(self) -> AsyncIterator[StoredObject]:
        for store in self._stores:
            async for found in store.list():
                if blob_id := blob_of_key(found.key):
                    yield StoredObject(blob_id, store.name, found.size, found.modified)

    async def remove_unfinished(self, before: datetime) -> int:
        return sum([await store.remove_unfinished(before, BLOBS) for store in self._stores])
