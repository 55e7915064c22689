"""Blobs and their renditions in the object stores: where the key of an object is decided."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from chitram.images.adapters.spooled import copy_to_spool
from chitram.images.domain.content import Received
from chitram.images.domain.keys import BLOBS, RENDITIONS, blob_of_rendition_key, renditions_prefix
from chitram.images.domain.rendition import Rendition
from chitram.images.ports import StoredObject
from chitram.images.public import blob_key, blob_of_key, rendition_key
from chitram.platform.objects.base import NewObject, ObjectNotFound
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.spool import Spool

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
        async with contextlib.aclosing(source):
            if file := await source.as_file():
                yield file
                return
            with Spool(self._spool_directory) as spool:
                await copy_to_spool(source, spool)
                yield spool

    async def put_rendition(self, rendition: Rendition, shard: str, content: bytes) -> None:
        await self._stores.by_name(shard).put(
            _key(rendition), [content], len(content), rendition.format.media_type
        )

    async def put_renditions(self, shard: str, made: Mapping[Rendition, bytes]) -> None:
        await self._stores.by_name(shard).put_all(
            [NewObject(_key(each), content, each.format.media_type) for each, content in made.items()]
        )

    async def read_rendition(self, rendition: Rendition, shard: str) -> bytes | None:
        try:
            source = await self._stores.by_name(shard).open(_key(rendition))
            async with contextlib.aclosing(source):
                return await source.read(0, source.size)
        except ObjectNotFound:
            return None

    async def renditions(self, blob_id: UUID, shard: str) -> Mapping[str, int]:
        prefix = renditions_prefix(blob_id)
        return {
            found.key.removeprefix(prefix): found.size
            async for found in self._stores.by_name(shard).list(prefix)
        }

    async def delete_rendition(self, blob_id: UUID, name: str, shard: str) -> None:
        await self._stores.by_name(shard).delete(f"{renditions_prefix(blob_id)}{name}")

    async def delete(self, blob_id: UUID, shard: str) -> None:
        store = self._stores.by_name(shard)
        for name in await self.renditions(blob_id, shard):
            await self.delete_rendition(blob_id, name, shard)
        await store.delete(blob_key(blob_id))

    async def list(self) -> AsyncIterator[StoredObject]:
        for store in self._stores:
            async for found in store.list():
                if blob_id := blob_of_key(found.key):
                    yield StoredObject(blob_id, store.name, found.size, found.modified)
                elif blob_id := blob_of_rendition_key(found.key):
                    name = found.key.removeprefix(renditions_prefix(blob_id))
                    yield StoredObject(blob_id, store.name, found.size, found.modified, name)

    async def remove_unfinished(self, before: datetime) -> int:
        return sum(
            [
                await store.remove_unfinished(before, prefix)
                for store in self._stores
                for prefix in (BLOBS, RENDITIONS)
            ]
        )


def _key(rendition: Rendition) -> str:
    return rendition_key(rendition.blob_id, rendition.kind, rendition.recipe)
