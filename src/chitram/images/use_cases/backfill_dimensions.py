"""Find width and height of images from before these were recorded."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from chitram.images.domain.image import Blob
from chitram.images.ports import BlobStore, ImageCaches, Inspector, Transactions
from chitram.kernel.errors import StorageUnavailable

_BATCH = 50


class BackfillDimensions:
    """Run by the worker. What cannot be read is passed over and stays null."""

    def __init__(
        self, transactions: Transactions, blobs: BlobStore, inspector: Inspector, caches: ImageCaches
    ) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._inspector = inspector
        self._caches = caches

    async def __call__(self) -> int:
        """Go once through all blobs without dimensions; return how many were filled."""
        filled = await self._fill_all()
        if filled:
            await self._caches.invalidate_all()
        return filled

    async def _fill_all(self) -> int:
        filled, after = 0, UUID(int=0)
        while True:
            async with self._transactions.begin() as transaction:
                batch = await transaction.blobs.without_dimensions(after, _BATCH)
            for blob in batch:
                filled += await self._fill(blob)
            if len(batch) < _BATCH:
                return filled
            after = batch[-1].id

    async def _fill(self, blob: Blob) -> bool:
        try:
            async with self._blobs.fetch(blob.id, blob.shard) as received:
                inspection = await self._inspector.inspect(received)
        except (LookupError, StorageUnavailable, CorruptImage, ImageTooLarge, InvalidFileFormat):
            return False
        async with self._transactions.begin() as transaction:
            await transaction.blobs.set_dimensions(blob.id, inspection.width, inspection.height)
            await transaction.commit()
        return True
