"""What Valkey still holds of an image, for administrators."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec
from valkey.asyncio import Valkey

from chitram.delivery.adapters.metadata_cache.values import PREFIX
from chitram.platform.shared_cache.codec import LEASE, MISSING

_TOMBSTONE = ":oldest"


class Holds(StrEnum):
    """What a key holds."""

    VALUE = "its metadata"
    MISSING = "that there is none"
    LEASE = "that somebody is asking for it"
    TOMBSTONE = "which versions may not be shown"


class CachedKey(msgspec.Struct, frozen=True):
    """A key of an image: what it holds, for how many milliseconds, and the epoch that it is read in."""

    name: str
    holds: Holds
    milliseconds: int
    epoch: int


async def cached_keys(client: Valkey, image_id: UUID) -> list[CachedKey]:
    """Every key of an image, of whatever epoch; goes through all keys. Raises `ValkeyError`, `OSError`."""
    found = []
    async for key in client.scan_iter(match=f"{PREFIX}:*:{{{image_id}}}*", count=1000):
        name = key.decode()
        value: bytes | None = await client.get(key)
        if value is not None:
            epoch = int(name.split(":{")[0].rpartition(":")[2])
            found.append(CachedKey(name, _kind_of(name, value), await client.pttl(key), epoch))
    return found


def _kind_of(name: str, value: bytes) -> Holds:
    if name.endswith(_TOMBSTONE):
        return Holds.TOMBSTONE
    if value == MISSING:
        return Holds.MISSING
    return Holds.LEASE if value.startswith(LEASE) else Holds.VALUE
