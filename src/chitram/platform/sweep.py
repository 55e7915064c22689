"""The sweep: hands to the queues what they should have and may have lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import func, select

from chitram.platform.attempts import under_way
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import JobQueues, QueueName

_BATCH = 500
# Between taking an entry from a queue and saying so in the outbox there are milliseconds.
_SUSPECT_SECONDS = 5.0

_log = structlog.get_logger("chitram.worker")


class Sweep:
    """Compares the outbox with the queues; may be done by several workers at once."""

    def __init__(self, begin: Callable[[], SqlUnitOfWork], queues: JobQueues) -> None:
        self._begin = begin
        self._queues = queues
        self._suspects: dict[UUID, float] = {}

    async def __call__(self) -> int:
        """Hand over what is due; return how many. Raises what the database and Valkey raise."""
        lost_at = None
        if not await self._queues.are_whole():
            lost_at = await self._now()
            _log.info("queues are filled afresh")
            await self._queues.filling()
        await self._forget_dead_workers()
        handed_over = sum([await self._fill(name, lost_at) for name in QueueName])
        if lost_at is not None:
            await self._queues.filled()
        return handed_over

    async def _fill(self, name: QueueName, lost_at: datetime | None) -> int:
        """Hand over what one queue should have, as far as there is room."""
        handed_over = 0
        while await self._queues.has_room(name) and (entries := await self._due(name, lost_at)):
            await self._queues.hand_over(name, entries)
            await self._mark(entries)
            handed_over += len(entries)
            if len(entries) < _BATCH:
                break
        return handed_over

    async def _forget_dead_workers(self) -> None:
        """Make room for what a worker took from a queue and neither began nor ended."""
        taken = {entry_id: name for name in QueueName for entry_id in await self._queues.taken(name)}
        now = time.monotonic()
        idle = taken.keys() - await self._under_way(taken)
        self._suspects = {entry_id: self._suspects.get(entry_id, now) for entry_id in idle}
        dead = [entry_id for entry_id, since in self._suspects.items() if now - since >= _SUSPECT_SECONDS]
        for entry_id in dead:
            await self._queues.forget(entry_id, taken[entry_id])
        if dead:
            async with self._begin() as transaction:
                await transaction.outbox.forget_enqueued(dead)
                await transaction.commit()

    async def _under_way(self, ids: dict[UUID, QueueName]) -> set[UUID]:
        if not ids:
            return set()
        async with self._begin() as transaction:
            return await under_way(transaction.session, ids)

    async def _due(self, name: QueueName, lost_at: datetime | None) -> list[OutboxEntry]:
        kinds = self._queues.kinds_of(name)
        async with self._begin() as transaction:
            return await transaction.outbox.due(kinds, _BATCH, queue_lost_at=lost_at)

    async def _mark(self, entries: list[OutboxEntry]) -> None:
        async with self._begin() as transaction:
            await transaction.outbox.mark_enqueued([entry.id for entry in entries])
            await transaction.commit()

    async def _now(self) -> datetime:
        """The time by the clock of the outbox."""
        async with self._begin() as transaction:
            now: datetime = (await transaction.session.execute(select(func.now()))).scalar_one()
        return now
