"""Owing the renditions of a blob again."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.rendition import RenditionSort
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS, OPTIMISE, REMAKE_RENDITIONS, REOPTIMISE
from chitram.images.ports import ImagesUnitOfWork

# What somebody waits for, and what nobody does. To owe one is as good as to owe the other.
_KINDS = {
    RenditionSort.THUMBNAILS: (MAKE_RENDITIONS, REMAKE_RENDITIONS),
    RenditionSort.OPTIMISED: (OPTIMISE, REOPTIMISE),
}


def kinds_of(sort: RenditionSort) -> tuple[str, str]:
    """Kinds of the work that makes renditions of a sort: where it is awaited, and where not."""
    return _KINDS[sort]


async def owe_renditions(
    transaction: ImagesUnitOfWork, blob_id: UUID, sort: RenditionSort, *, is_awaited: bool = False
) -> bool:
    """Owe renditions of a sort; false when they are owed already. What was given up is still owed.

    Args:
        is_awaited: somebody waits for them, so they go before those for which nobody does.
    """
    payload, (awaited, unawaited) = {BLOB_ID: str(blob_id)}, _KINDS[sort]
    if await transaction.outbox.owes(payload, awaited, unawaited):
        return False
    await transaction.outbox.add(awaited if is_awaited else unawaited, payload)
    return True


async def lack_renditions(transaction: ImagesUnitOfWork, blob_id: UUID, sort: RenditionSort) -> None:
    """Have renditions made again that are lost; the blob's row is locked by the caller."""
    await transaction.blobs.set_recipe(blob_id, sort, None)
    await owe_renditions(transaction, blob_id, sort)
