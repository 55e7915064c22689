"""What the worker does for images."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.rendition import RenditionSort
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DELETE_BLOB,
    DROP_COPY,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    OPTIMISE,
    REMAKE_RENDITIONS,
    REOPTIMISE,
    SHARD,
)
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.drop_copy import DropCopy, DropCopyCommand
from chitram.images.use_cases.drop_renditions import DropRenditions, DropRenditionsCommand
from chitram.images.use_cases.give_up_renditions import GiveUpRenditions
from chitram.images.use_cases.make_renditions import MakeRenditions
from chitram.images.use_cases.optimise import Optimise
from chitram.images.use_cases.renditions import RenditionCommand
from chitram.platform.background import Job
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import QueueName
from chitram.platform.settings import Settings

# Removing an object takes a store in health far less.
_REMOVE_SECONDS = 110
# How often as long as it may render a job takes at most: where nobody is short of processors a
# fraction of one. Three others may be before it at the only renderer, which is waited for four times
# as long as it may render when it gets no processor: more than these sixteen is the job's own fault.
_RENDERS = 17


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


class _RenditionsJob(Job):
    """Makes renditions of one sort, and says of a blob when nobody will try again."""

    sort: RenditionSort
    is_remake = False
    # After the last of these an administrator has to look; a picture that kills its decoder always will.
    attempts = 5

    def __init__(self, give_up: GiveUpRenditions, settings: Settings) -> None:
        self._give_up = give_up
        # Reading the original, waiting for a renderer that waits for a processor, and putting what it made.
        self.seconds = _RENDERS * settings.render_seconds + _REMOVE_SECONDS

    async def given_up(self, entry: OutboxEntry) -> None:
        await self._give_up(UUID(entry.payload[BLOB_ID]), self.sort)

    async def revived(self, entry: OutboxEntry) -> None:
        await self._give_up.revive(UUID(entry.payload[BLOB_ID]), self.sort)


class MakeRenditionsJob(_RenditionsJob):
    """Settles `blob.renditions` entries."""

    kind = MAKE_RENDITIONS
    queue = QueueName.THUMBNAILS
    sort = RenditionSort.THUMBNAILS

    def __init__(self, make: MakeRenditions, give_up: GiveUpRenditions, settings: Settings) -> None:
        super().__init__(give_up, settings)
        self._make = make

    async def __call__(self, entry: OutboxEntry) -> None:
        await self._make(RenditionCommand(entry.id, UUID(entry.payload[BLOB_ID]), self.is_remake))


class RemakeRenditionsJob(MakeRenditionsJob):
    """Settles `blob.remake` entries."""

    kind = REMAKE_RENDITIONS
    queue = QueueName.UPKEEP
    is_remake = True


class OptimiseJob(_RenditionsJob):
    """Settles `blob.optimise` entries."""

    kind = OPTIMISE
    queue = QueueName.OPTIMISE
    sort = RenditionSort.OPTIMISED

    def __init__(self, optimise: Optimise, give_up: GiveUpRenditions, settings: Settings) -> None:
        super().__init__(give_up, settings)
        self._optimise = optimise

    async def __call__(self, entry: OutboxEntry) -> None:
        await self._optimise(RenditionCommand(entry.id, UUID(entry.payload[BLOB_ID]), self.is_remake))


class ReoptimiseJob(OptimiseJob):
    """Settles `blob.reoptimise` entries."""

    kind = REOPTIMISE
    queue = QueueName.UPKEEP
    is_remake = True


class DropRenditionsJob(Job):
    """Settles `blob.drop_renditions` entries."""

    kind = DROP_RENDITIONS
    queue = QueueName.UPKEEP
    seconds = _REMOVE_SECONDS

    def __init__(self, drop: DropRenditions) -> None:
        self._drop = drop

    async def __call__(self, entry: OutboxEntry) -> None:
        blob_id, names = UUID(entry.payload[BLOB_ID]), entry.payload.get(NAMES)
        listed = None if names is None else names.split(" ")
        await self._drop(DropRenditionsCommand(entry.id, blob_id, entry.payload[SHARD], listed))


class ClearRenditionsJob(DropRenditionsJob):
    """Settles `blob.clear_renditions` entries."""

    kind = CLEAR_RENDITIONS
    queue = QueueName.URGENT
