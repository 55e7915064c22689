"""Files of images out of the object stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chitram.delivery.ports import OpenFile
from chitram.images.public import ImageNotFound, ImageView, blob_key
from chitram.platform.objects.base import ObjectNotFound, OpenObject
from chitram.platform.objects.registry import ObjectStores


class ObjectImageFiles:
    """Opens a blob's object in the store that its row names."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def open(self, view: ImageView) -> OpenFile:
        with _gone_as_not_found():
            return _ObjectFile(await self._stores.by_name(view.shard).open(blob_key(view.blob_id)))


class _ObjectFile:
    """An open object. On a remote store it may vanish between opening and reading."""

    def __init__(self, opened: OpenObject) -> None:
        self._opened = opened

    @property
    def size(self) -> int:
        return self._opened.size

    async def read(self, offset: int, length: int) -> bytes:
        with _gone_as_not_found():
            return await self._opened.read(offset, length)

    async def aclose(self) -> None:
        await self._opened.aclose()


@contextlib.contextmanager
def _gone_as_not_found() -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as error:
        raise ImageNotFound from error
