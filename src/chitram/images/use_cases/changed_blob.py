"""Letting readers see what changed of a blob: of every image that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chitram.images.ports import ImageCaches, ImagesUnitOfWork

# More are made unreadable with everything else: it takes less time than one by one, and the versions
# of the rest need not grow, for what a fill under way may still leave is forgotten soon or still true.
MOST_IMAGES = 500

Touched = Sequence[tuple[UUID, int]]


async def touch_images(transaction: ImagesUnitOfWork, blob_id: UUID) -> Touched:
    """Raise the version of the images that show a blob, as part of the change of it."""
    return await transaction.images.touch(blob_id, MOST_IMAGES)


async def show_change(caches: ImageCaches, touched: Touched) -> None:
    """Make every copy unreadable that is older; after the commit, or when it is not known to be."""
    if len(touched) == MOST_IMAGES:
        await caches.invalidate_all()
        return
    for image_id, version in touched:
        await caches.invalidate(image_id, version)
