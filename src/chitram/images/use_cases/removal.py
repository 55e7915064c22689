"""Taking an image away: what deleting and expiring share."""

from __future__ import annotations

from collections.abc import Awaitable
from uuid import UUID

from chitram.images.domain.image import Image
from chitram.images.domain.work import (
    BLOB_ID,
    DELETE_BLOB,
    DROP_RENDITIONS,
    IMAGE_ID,
    MAKE_RENDITIONS,
    OPTIMISE,
    PURGE_IMAGE,
    REMAKE_RENDITIONS,
)
from chitram.images.ports import ImageCaches, ImagesUnitOfWork
from chitram.kernel.errors import CommitUncertain
from chitram.kernel.versions import GONE, UNKNOWN

# Of a blob that goes. Whoever is at it notices, and clears up after itself.
_NEEDLESS = (MAKE_RENDITIONS, REMAKE_RENDITIONS, OPTIMISE, DROP_RENDITIONS)


async def out_of_sight(removing: Awaitable[bool], caches: ImageCaches, image_id: UUID) -> bool:
    """Wait for a transaction that removes an image, then make every copy of it unreadable.

    Args:
        removing: the whole transaction; tells whether it was committed.

    The outbox row of the same transaction does it again, should this process end in between.
    """
    try:
        removed = await removing
    except CommitUncertain:
        await caches.invalidate(image_id, UNKNOWN)
        raise
    if removed:
        await caches.invalidate(image_id, GONE)
    return removed


async def remove_image(transaction: ImagesUnitOfWork, image: Image) -> bool:
    """Remove an image, and condemn its blob when it was the last to show it.

    The blob's row is locked first, so that counting is exact against uploads of the same content.
    False when another transaction removed the image before.
    """
    await transaction.blobs.lock(image.blob_id)
    if not await transaction.images.remove(image.id):
        return False
    await transaction.keys.forget(image.id)
    await transaction.outbox.add(PURGE_IMAGE, {IMAGE_ID: str(image.id)})
    if await transaction.images.count_on(image.blob_id) == 0:
        payload = {BLOB_ID: str(image.blob_id)}
        await transaction.blobs.mark_deleting(image.blob_id)
        for kind in _NEEDLESS:
            await transaction.outbox.discard(kind, payload)
        await transaction.outbox.add(DELETE_BLOB, payload)
    return True
