"""Taking an image away inside a transaction: what deleting and expiring share."""

from __future__ import annotations

from chitram.images.domain.image import Image
from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, MAKE_RENDITIONS
from chitram.images.ports import ImagesUnitOfWork


async def remove_image(transaction: ImagesUnitOfWork, image: Image) -> bool:
    """Remove an image, and condemn its blob when it was the last to show it.

    The blob's row is locked first, so that counting is exact against uploads of the same content.
    False when another transaction removed the image before.
    """
    await transaction.blobs.lock(image.blob_id)
    if not await transaction.images.remove(image.id):
        return False
    if await transaction.images.count_on(image.blob_id) == 0:
        payload = {BLOB_ID: str(image.blob_id)}
        await transaction.blobs.mark_deleting(image.blob_id)
        await transaction.outbox.discard(MAKE_RENDITIONS, payload)
        await transaction.outbox.add(DELETE_BLOB, payload)
    return True
