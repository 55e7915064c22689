"""Taking an image away, and what was kept of it: what changing, deleting and expiring share."""

from __future__ import annotations

from collections.abc import Awaitable
from uuid import UUID

from chitram.accounts.public import Quotas
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
    REOPTIMISE,
)
from chitram.images.ports import ImageCaches, ImagesUnitOfWork
from chitram.kernel.errors import CommitUncertain
from chitram.kernel.versions import GONE, UNKNOWN

# Of a blob that goes. Whoever is at it notices, and clears up after itself.
_NEEDLESS = (MAKE_RENDITIONS, REMAKE_RENDITIONS, OPTIMISE, REOPTIMISE, DROP_RENDITIONS)


async def out_of_sight(changing: Awaitable[int | None], caches: ImageCaches, image_id: UUID) -> int | None:
    """Wait for a transaction that changes or removes an image, then make older copies unreadable.

    Args:
        changing: the whole transaction; gives the oldest version that may be shown from now on,
            `GONE` for none, or None when nothing was committed.

    The outbox row of the same transaction does it again, should this process end in between.
    """
    try:
        oldest = await changing
    except CommitUncertain:
        await caches.invalidate(image_id, UNKNOWN)
        raise
    if oldest is not None:
        await caches.invalidate(image_id, oldest)
    return oldest


async def remove_image(transaction: ImagesUnitOfWork, image: Image, quotas: Quotas) -> int | None:
    """Remove an image, and condemn its blob when it was the last to show it.

    The blob's row is locked first, so that this is exact against uploads of the same content,
    and the account's last. `GONE`, or None when another transaction removed the image before.
    """
    blob = await transaction.blobs.lock(image.blob_id)
    if blob is None or not await transaction.images.remove(image.id):
        return None
    await transaction.keys.forget(image.id)
    # The blob is what there is to follow once the image's row is gone.
    purge = {IMAGE_ID: str(image.id), BLOB_ID: str(image.blob_id)}
    await transaction.outbox.add(PURGE_IMAGE, purge)
    if not await transaction.images.is_shown(image.blob_id):
        payload = {BLOB_ID: str(image.blob_id)}
        await transaction.blobs.mark_deleting(image.blob_id)
        await transaction.outbox.discard(payload, *_NEEDLESS)
        await transaction.outbox.add(DELETE_BLOB, payload)
    if image.owner_id is not None:
        await quotas.release(transaction, image.owner_id, blob.byte_size)
    return GONE
