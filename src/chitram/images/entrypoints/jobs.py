"""What the worker does for images."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.work import BLOB_ID, DELETE_BLOB
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.platform.outbox import OutboxEntry


class DeleteBlobJob:
    """Settles `blob.delete` entries."""

    kind = DELETE_BLOB

    def __init__(self, delete_blob: DeleteBlob) -> None:
        self._delete_blob = delete_blob

    async def __call__(self, entry: OutboxEntry) -> None:
        await self._delete_blob(DeleteBlobCommand(entry.id, UUID(entry.payload[BLOB_ID])))
