"""Files of images out of the object stores."""

from __future__ import annotations

from chitram.delivery.ports import OpenFile
from chitram.images.public import ImageNotFound, ImageView, blob_key
from chitram.platform.objects.base import ObjectNotFound
from chitram.platform.objects.registry import ObjectStores


class ObjectImageFiles:
    """Opens a blob's object in the store that its row names."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def open(self, view: ImageView) -> OpenFile:
        try:
            return await self._stores.by_name(view.shard).open(blob_key(view.blob_id))
        except ObjectNotFound as error:
            raise ImageNotFound from error
