"""Owing the renditions of a blob again."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.rendition import RenditionSort
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS, OPTIMISE, REMAKE_RENDITIONS, REOPTIMISE
from chitram.images.ports import ImagesUnitOfWork

# The last is what is owed, the others are as good.
_KINDS = {
    RenditionSort.THUMBNAILS: (MAKE_RENDITIONS, REMAKE_RENDITIONS),
    RenditionSort.OPTIMISED: (OPTIMISE, REOPTIMISE),
}


async def owe_renditions(transaction: ImagesUnitOfWork, blob_id: UUID, sort: RenditionSort) -> bool:
    """Owe renditions of a sort, behind those that somebody waits for; false when they are owed already.

    What was given up is still owed.
    """
    payload, kinds = {BLOB_ID: str(blob_id)}, _KINDS[sort]
    for kind in kinds:
        if await transaction.outbox.owes(kind, payload):
            return False
    await transaction.outbox.add(kinds[-1], payload)
    return True


async def lack_renditions(transaction: ImagesUnitOfWork, blob_id: UUID, sort: RenditionSort) -> None:
    """Have renditions made again that are lost; the blob's row is locked by the caller."""
    await transaction.blobs.set_recipe(blob_id, sort, None)
    await owe_renditions(transaction, blob_id, sort)
