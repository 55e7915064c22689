"""What the worker does for images."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, DROP_COPY, SHARD
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.drop_copy import DropCopy, DropCopyCommand
from chitram.platform.background import Job
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import QueueName

# Removing an object takes a store in health far less.
_REMOVE_SECONDS = 110


class DeleteBlobJob(Job):
    """Settles `blob.delete` entries."""

    kind = DELETE_BLOB
    queue = QueueName.URGENT
    seconds = _REMOVE_SECONDS

    def __init__(self, delete_blob: DeleteBlob) -> None:
        self._delete_blob = delete_blob

    async def __call__(self, entry: OutboxEntry) -> None:
        await self._delete_blob(DeleteBlobCommand(entry.id, UUID(entry.payload[BLOB_ID])))


class DropCopyJob(Job):
    """Settles `blob.drop_copy` entries."""

    kind = DROP_COPY
    queue = QueueName.URGENT
    seconds = _REMOVE_SECONDS

    def __init__(self, drop_copy: DropCopy) -> None:
        self._drop_copy = drop_copy

    async def __call__(self, entry: OutboxEntry) -> None:
        blob_id, shard = UUID(entry.payload[BLOB_ID]), entry.payload[SHARD]
        await self._drop_copy(DropCopyCommand(entry.id, blob_id, shard))
