"""Background work: settling outbox entries, and doing things by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
from saq import Queue
from valkey.exceptions import ValkeyError

from chitram.kernel.errors import Category, ChitramError
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import JOB_SECONDS, enqueue

_SWEEP_BATCH = 500
_RECORD_SECONDS = 10

_log = structlog.get_logger("chitram.worker")

Job = Callable[[OutboxEntry], Awaitable[None]]


class OutboxRunner:
    """Does what outbox entries say, and accounts for every attempt in the outbox itself."""

    def __init__(self, begin: Callable[[], SqlUnitOfWork], jobs: dict[str, Job]) -> None:
        self._begin = begin
        self._jobs = jobs

    async def run(self, _: dict[str, Any], *, entry_id: str) -> None:
        """Do one entry. A failure is recorded with the time of the next attempt, not raised."""
        entry = await self._find(UUID(entry_id))
        if entry is None or entry.kind not in self._jobs:
            return
        try:
            # The queue's own time-out would cancel this before the failure could be recorded.
            async with asyncio.timeout(JOB_SECONDS - _RECORD_SECONDS):
                await self._jobs[entry.kind](entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, the outbox has to know
            _log.warning("job failed", kind=entry.kind, entry=str(entry.id), exc_info=error)
            await self._record(entry.id, error)

    async def sweep(self, queue: Queue) -> int:
        """Hand to the queue what it should have and may have lost; return how many."""
        async with self._begin() as transaction:
            due = await transaction.outbox.due(list(self._jobs), _SWEEP_BATCH)
        for entry in due:
            await enqueue(queue, entry)
        if due:
            async with self._begin() as transaction:
                await transaction.outbox.mark_enqueued([entry.id for entry in due])
                await transaction.commit()
        return len(due)

    async def _find(self, entry_id: UUID) -> OutboxEntry | None:
        async with self._begin() as transaction:
            return await transaction.outbox.find(entry_id)

    async def _record(self, entry_id: UUID, error: Exception) -> None:
        text = error.code if isinstance(error, ChitramError) else f"{type(error).__name__}: {error}"
        may_pass = isinstance(error, ChitramError) and error.category is Category.UNAVAILABLE
        async with self._begin() as transaction:
            dead = await transaction.outbox.failed(entry_id, text, may_pass=may_pass)
            await transaction.commit()
        if dead:
            _log.error("job given up", entry=str(entry_id))


async def every(
    seconds: float, name: str, work: Callable[[], Awaitable[object]], stop: asyncio.Event
) -> None:
    """Do `work` now and again every `seconds` until `stop`; an outage only skips a turn."""
    while not stop.is_set():
        try:
            await work()
        except (ChitramError, ValkeyError, OSError) as error:
            _log.warning("skipped", work=name, cause=type(error).__name__)
        except Exception:  # noqa: BLE001 - a loop that ends would never be missed
            _log.exception("unexpected error", work=name)
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            continue
