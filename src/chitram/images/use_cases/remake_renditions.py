"""Find blobs whose renditions are of an older recipe, or were never made, and owe them."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.image import Blob
from chitram.images.domain.rendition import Processing, RenditionSort
from chitram.images.ports import Transactions
from chitram.images.use_cases.owing import owe_renditions

# With a round a minute 12,000 an hour, which two cores can make.
_BATCH = 200


class RemakeRenditions:
    """Run by the worker, some blobs at a time. What was given up waits for an administrator."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._after = UUID(int=0)

    async def __call__(self) -> int:
        """Look at the next blobs; return of how many something is owed from now on."""
        async with self._transactions.begin() as transaction:
            batch = await transaction.blobs.outdated(self._after, _BATCH)
            owed = 0
            for blob in batch:
                sort = _wanted(blob)
                owed += sort is not None and await owe_renditions(transaction, blob.id, sort)
            await transaction.commit()
        self._after = batch[-1].id if len(batch) == _BATCH else UUID(int=0)
        return owed


def _wanted(blob: Blob) -> RenditionSort | None:
    """What has to be made next: thumbnails have the rest made once they are there."""
    if (blob.thumbnails_recipe or 0) < RenditionSort.THUMBNAILS.recipe:
        return RenditionSort.THUMBNAILS
    return RenditionSort.OPTIMISED if blob.processing is Processing.READY else None
