"""Who sends the bytes of an image: this server, the proxy before it, or the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chitram.delivery.ports import Delivery, SentByProxy, SentByStore
from chitram.images.public import ImageView, blob_key
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.registry import ObjectStores

# What the shipped configuration of the proxy calls the stores, for itself alone.
_INTERNAL = "/_chitram"
# A link made for an image that is deleted right after outlives it by this much.
_LONGEST_SECONDS = 60


class ByThisServer:
    """Hands nothing over."""

    def __init__(self, stores: ObjectStores) -> None:
        pass

    async def hand_over(self, view: ImageView, seconds: int | None) -> None:
        pass


class ByProxy:
    """Has files of local stores sent by the proxy, which reads them from the same disk."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def hand_over(self, view: ImageView, seconds: int | None) -> SentByProxy | None:  # noqa: ARG002 - part of the protocol
        """Look first: what the proxy does not find, this server can look for elsewhere."""
        store, key = self._stores.by_name(view.shard), blob_key(view.blob_id)
        path = store.internal_path(key)
        if path is None:
            return None
        found = await store.stat(key)
        if found is None:
            return None
        if found.size != view.file_size:
            raise StorageUnavailable("The stored file is not whole.")
        return SentByProxy(f"{_INTERNAL}/{store.name}/{path}")


class ByStore:
    """Sends clients to the store itself, where it has addresses."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def hand_over(self, view: ImageView, seconds: int | None) -> SentByStore | None:
        lifetime = _LONGEST_SECONDS if seconds is None else min(seconds, _LONGEST_SECONDS)
        if lifetime < 1:
            return None
        url = await self._stores.by_name(view.shard).presign("GET", blob_key(view.blob_id), lifetime)
        return SentByStore(url) if url else None


SENDERS: Mapping[str, Callable[[ObjectStores], Delivery]] = {
    "app": ByThisServer,
    "accel": ByProxy,
    "redirect": ByStore,
}
