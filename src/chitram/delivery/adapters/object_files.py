"""Files of images out of the object stores."""

from __future__ import annotations

import contextlib

from chitram.delivery.ports import ObjectMissing, OpenFile
from chitram.delivery.representations import Representation
from chitram.images.public import BlobPlaces, ImageNotFound
from chitram.platform.objects.base import ObjectNotFound, OpenObject
from chitram.platform.objects.registry import ObjectStores, StoreNotConfigured


class ObjectImageFiles:
    """Opens objects of a blob in the store that its row names.

    What was read of the row may come from a cache and be older than a move to another store, so an
    object that is missing is looked for once more where the row says now. A live blob without its
    object is a loss of the store's, not an image that never was; or what was read is older than a
    rendition that has taken the place of another.
    """

    def __init__(self, stores: ObjectStores, places: BlobPlaces) -> None:
        self._stores = stores
        self._places = places

    async def open(self, wanted: Representation) -> OpenFile:
        try:
            return await self._open(wanted.key, wanted.shard)
        except (ObjectNotFound, StoreNotConfigured) as error:
            shard = await self._places.shard_of(wanted.blob_id)
            if shard is None:
                raise ImageNotFound from error
            if shard == wanted.shard and isinstance(error, StoreNotConfigured):
                raise
        if shard != wanted.shard:
            with contextlib.suppress(ObjectNotFound):
                return await self._open(wanted.key, shard)
        raise ObjectMissing

    async def _open(self, key: str, shard: str) -> OpenFile:
        store = self._stores.by_name(shard)
        opened = await store.open(key)
        return _RemoteFile(opened) if store.internal_path(key) is None else opened


class _RemoteFile:
    """An open object of a remote store, where it may vanish between opening and reading."""

    def __init__(self, opened: OpenObject) -> None:
        self._opened = opened

    @property
    def size(self) -> int:
        return self._opened.size

    async def read(self, offset: int, length: int) -> bytes:
        try:
            return await self._opened.read(offset, length)
        except ObjectNotFound as error:
            raise ImageNotFound from error

    async def aclose(self) -> None:
        await self._opened.aclose()
