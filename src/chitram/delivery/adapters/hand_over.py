"""Who sends the bytes of an image: this server, the proxy before it, or the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chitram.delivery.ports import Delivery, SentByProxy, SentByStore
from chitram.delivery.representations import Representation
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import ObjectStore
from chitram.platform.objects.registry import ObjectStores, StoreNotConfigured

# What the shipped configuration of the proxy calls the stores, for itself alone.
_INTERNAL = "/_chitram"
# A link made for an image that is deleted right after outlives it by this much.
_LONGEST_SECONDS = 60


class ByThisServer:
    """Hands nothing over."""

    def __init__(self, stores: ObjectStores) -> None:
        pass

    async def hand_over(self, wanted: Representation, seconds: int | None) -> None:
        pass


class ByProxy:
    """Has files of local stores sent by the proxy, which reads them from the same disk."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def hand_over(self, wanted: Representation, seconds: int | None) -> SentByProxy | None:  # noqa: ARG002 - part of the protocol
        """Look first: what the proxy does not find, this server can look for elsewhere."""
        if (store := _store_of(wanted, self._stores)) is None:
            return None
        path = store.internal_path(wanted.key)
        if path is None:
            return None
        found = await store.stat(wanted.key)
        if found is None:
            return None
        if found.size != wanted.size:
            raise StorageUnavailable("The stored file is not whole.")
        return SentByProxy(f"{_INTERNAL}/{store.name}/{path}")


class ByStore:
    """Sends clients to the store itself, where it has addresses."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def hand_over(self, wanted: Representation, seconds: int | None) -> SentByStore | None:
        lifetime = _LONGEST_SECONDS if seconds is None else min(seconds, _LONGEST_SECONDS)
        store = _store_of(wanted, self._stores)
        if lifetime < 1 or store is None:
            return None
        url = await store.presign("GET", wanted.key, lifetime)
        return SentByStore(url) if url else None


def _store_of(wanted: Representation, stores: ObjectStores) -> ObjectStore | None:
    """The store that is named; None when its entry went after a move that the name is older than."""
    try:
        return stores.by_name(wanted.shard)
    except StoreNotConfigured:
        return None


SENDERS: Mapping[str, Callable[[ObjectStores], Delivery]] = {
    "app": ByThisServer,
    "accel": ByProxy,
    "redirect": ByStore,
}
