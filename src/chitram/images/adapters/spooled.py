"""Copying an object to the spool."""

from __future__ import annotations

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import OpenObject
from chitram.platform.spool import Spool

# One request each to a remote store.
_READ_BYTES = 1024 * 1024


async def copy_to_spool(source: OpenObject, spool: Spool) -> None:
    """Append all of an object to a spool. Raises `StorageUnavailable`, and `ObjectNotFound`."""
    while spool.size < source.size:
        chunk = await source.read(spool.size, _READ_BYTES)
        if not chunk:
            raise StorageUnavailable("The image store gave fewer bytes than it promised.")
        await spool.write(chunk)
    await spool.flush()
