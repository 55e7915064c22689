"""What the worker does for images."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, DROP_COPY, SHARD
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.drop_copy import DropCopy, DropCopyCommand
from chitram.platform.outbox import OutboxEntry


class DeleteBlobJob:
    """Settles `blob.delete` entries."""

    kind = DELETE_BLOB

    def __init__(self, delete_blob: DeleteBlob) -> None:
        self._delete_blob = delete_blob

    async def __call__(self, entry: OutboxEntry) -> None:
        await self._delete_blob(DeleteBlobCommand(entry.id, UUID(entry.payload[BLOB_ID])))


class DropCopyJob:
    """Settles `blob.drop_copy` entries."""

    kind = DROP_COPY

    def __init__(self, drop_copy: DropCopy) -> None:
        self._drop_copy = drop_copy

    async def __call__(self, entry: OutboxEntry) -> None:
        blob_id, shard = UUID(entry.payload[BLOB_ID]), entry.payload[SHARD]
        await self._drop_copy(DropCopyCommand(entry.id, blob_id, shard))
