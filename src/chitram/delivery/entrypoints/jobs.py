"""What the worker does for delivery."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.images.public import GONE, IMAGE_ID, PURGE_IMAGE, VERSION, ImageCaches
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.background import Job
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry, Relay
from chitram.platform.queue import QueueName


class PurgeImageJob(Job):
    """Settles `image.purge` entries: nothing that was kept of a removed image is shown any more.

    Of an image that was changed, nothing from before. Who did it has done this already, unless its
    process ended in between.
    """

    kind = PURGE_IMAGE
    queue = QueueName.URGENT
    seconds = 10.0

    def __init__(self, caches: ImageCaches, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._caches = caches
        self._sessions = sessions
        self._relay = relay

    async def __call__(self, entry: OutboxEntry) -> None:
        oldest = int(entry.payload.get(VERSION, GONE))
        if not await self._caches.invalidate(UUID(entry.payload[IMAGE_ID]), oldest):
            raise DatabaseUnavailable
        async with SqlUnitOfWork(self._sessions, self._relay) as transaction:
            await transaction.outbox.done(entry.id)
            await transaction.commit()
