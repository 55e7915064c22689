"""Delete the objects of a blob that no image shows any more."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.images.domain.image import BlobState
from chitram.images.ports import BlobStore, Transactions


class DeleteBlobCommand(msgspec.Struct, frozen=True):
    """The blob, and the outbox entry that this settles."""

    entry_id: UUID
    blob_id: UUID


class DeleteBlob:
    """Run by the worker, any number of times, also twice at once: objects first, then the row."""

    def __init__(self, transactions: Transactions, blobs: BlobStore) -> None:
        self._transactions = transactions
        self._blobs = blobs

    async def __call__(self, command: DeleteBlobCommand) -> None:
        async with self._transactions.begin() as transaction:
            blob = await transaction.blobs.lock(command.blob_id)
        condemned = blob is not None and blob.state is BlobState.DELETING
        if blob is not None and condemned:
            await self._blobs.delete(blob.id, blob.shard)
        async with self._transactions.begin() as transaction:
            if condemned:
                await transaction.blobs.remove(command.blob_id)
            await transaction.outbox.done(command.entry_id)
            await transaction.commit()
