"""Say that renditions cannot be made, and take it back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from chitram.images.domain.image import Blob, BlobState
from chitram.images.domain.rendition import Processing, RenditionSort
from chitram.images.ports import ImageCaches, ImagesUnitOfWork, Transactions
from chitram.images.use_cases.changed_blob import Touched, show_change, touch_images

_Change = Callable[[ImagesUnitOfWork, Blob], Awaitable[None]]


class GiveUpRenditions:
    """Run by the worker, any number of times. A blob keeps what older recipes made of it.

    The recipe is recorded as tried, so that nobody tries again by it unless an administrator says so.
    """

    def __init__(self, transactions: Transactions, caches: ImageCaches) -> None:
        self._transactions = transactions
        self._caches = caches

    async def __call__(self, blob_id: UUID, sort: RenditionSort) -> None:
        """Say that all attempts by today's recipe have failed."""

        async def give_up(transaction: ImagesUnitOfWork, blob: Blob) -> None:
            await transaction.blobs.set_recipe(blob_id, sort, sort.recipe)
            if sort is RenditionSort.THUMBNAILS and blob.processing is not Processing.READY:
                await transaction.blobs.set_processing(blob_id, Processing.FAILED)

        await self._change(blob_id, give_up)

    async def revive(self, blob_id: UUID, sort: RenditionSort) -> None:
        """Say that it is going to be tried again."""

        async def revive(transaction: ImagesUnitOfWork, blob: Blob) -> None:
            await transaction.blobs.set_recipe(blob_id, sort, None)
            if sort is RenditionSort.THUMBNAILS and blob.processing is Processing.FAILED:
                await transaction.blobs.set_processing(blob_id, Processing.PENDING)

        await self._change(blob_id, revive)

    async def _change(self, blob_id: UUID, change: _Change) -> None:
        touched: Touched = []
        try:
            async with self._transactions.begin() as transaction:
                blob = await transaction.blobs.lock(blob_id)
                if blob is None or blob.state is not BlobState.LIVE:
                    return
                await change(transaction, blob)
                touched = await touch_images(transaction, blob_id)
                await transaction.commit()
        finally:
            await show_change(self._caches, touched)
