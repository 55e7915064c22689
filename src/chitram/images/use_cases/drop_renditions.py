"""Remove objects of renditions that nothing names any more."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chitram.images.domain.image import BlobState
from chitram.images.domain.keys import rendition_name
from chitram.images.ports import BlobStore, Transactions


class DropRenditionsCommand(msgspec.Struct, frozen=True):
    """Whose renditions, in which store, and the outbox entry that this settles.

    Attributes:
        names: of those that others have taken the place of. None is everything that is kept of a
            blob in this store, but only once the blob is gone: some may have been put behind the
            back of who deleted it.
    """

    entry_id: UUID
    blob_id: UUID
    shard: str
    names: Sequence[str] | None


class DropRenditions:
    """Run by the worker, any number of times, also twice at once.

    What a live blob has in a store that its row does not name goes with the copy that a move left.
    """

    def __init__(self, transactions: Transactions, blobs: BlobStore) -> None:
        self._transactions = transactions
        self._blobs = blobs

    async def __call__(self, command: DropRenditionsCommand) -> None:
        async with self._transactions.begin() as transaction:
            blob = await transaction.blobs.lock(command.blob_id)
            rows = await transaction.renditions.of(command.blob_id)
        if blob is None or blob.state is not BlobState.LIVE:
            await self._blobs.delete(command.blob_id, command.shard)
        elif blob.shard == command.shard and command.names:
            named = {rendition_name(row.kind, row.recipe) for row in rows}
            for name in set(command.names) - named:
                await self._blobs.delete_rendition(blob.id, name, command.shard)
        async with self._transactions.begin() as transaction:
            await transaction.outbox.done(command.entry_id)
            await transaction.commit()
