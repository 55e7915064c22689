"""Remove a copy of a blob from a store that its row does not name."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.images.domain.image import BlobState
from chitram.images.ports import BlobStore, Transactions


class DropCopyCommand(msgspec.Struct, frozen=True):
    """The blob, the store of the copy, and the outbox entry that this settles."""

    entry_id: UUID
    blob_id: UUID
    shard: str


class LastCopy(Exception):
    """The store that the row names has no whole object, so this copy may be the last."""


class DropCopy:
    """Run by the worker, any number of times, also twice at once."""

    def __init__(self, transactions: Transactions, blobs: BlobStore) -> None:
        self._transactions = transactions
        self._blobs = blobs

    async def __call__(self, command: DropCopyCommand) -> None:
        """Remove the copy, unless it is the object. Raises `LastCopy` and `StorageUnavailable`.

        No move makes it the object after the look at the row: it refuses while this is owed.
        """
        async with self._transactions.begin() as transaction:
            blob = await transaction.blobs.lock(command.blob_id)
        if blob is None or blob.shard != command.shard:
            if (
                blob is not None
                and blob.state is BlobState.LIVE
                and await self._blobs.size(blob.id, blob.shard) != blob.byte_size
            ):
                raise LastCopy
            await self._blobs.delete(command.blob_id, command.shard)
        async with self._transactions.begin() as transaction:
            await transaction.outbox.done(command.entry_id)
            await transaction.commit()
