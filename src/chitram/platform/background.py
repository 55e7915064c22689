"""Background work: settling outbox entries, and doing things by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import structlog
from saq import Queue
from valkey.exceptions import ValkeyError

from chitram.kernel.errors import Category, ChitramError
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import QueueName, enqueue

_SWEEP_BATCH = 500

_log = structlog.get_logger("chitram.worker")


class Job:
    """Settles the outbox entries of one kind; most need no more of this than its attributes.

    Attributes:
        kind: of the entries.
        queue: where they wait. Work that has to wait for other work of its sort is a kind of its own.
        seconds: longest time for an attempt; then it is cancelled, and has failed.
        attempts: so many may fail before an entry is given up. An outage (`Category.UNAVAILABLE`)
            is waited out, however long it takes.
    """

    kind: str
    queue: QueueName
    seconds: float
    attempts: int = 10

    async def __call__(self, entry: OutboxEntry) -> None:
        """Do what the entry says, and strike it off in the final transaction; safe to be done twice."""
        raise NotImplementedError

    async def given_up(self, entry: OutboxEntry) -> None:
        """Say where it is seen that nobody will try again; before the entry is dead, perhaps twice."""

    async def revived(self, entry: OutboxEntry) -> None:
        """Take that back: an administrator gives the entry a fresh start; perhaps twice."""


class OutboxRunner:
    """Does what outbox entries say, and accounts for every attempt in the outbox itself."""

    def __init__(self, begin: Callable[[], SqlUnitOfWork], jobs: Iterable[Job]) -> None:
        self._begin = begin
        self._jobs = {job.kind: job for job in jobs}

    async def run(self, _: dict[str, Any], *, entry_id: str) -> None:
        """Do one entry. A failure is recorded with the time of the next attempt, not raised."""
        entry = await self._find(UUID(entry_id))
        if entry is None or (job := self._jobs.get(entry.kind)) is None:
            return
        try:
            async with asyncio.timeout(job.seconds):
                await job(entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, the outbox has to know
            _log.warning("job failed", kind=entry.kind, entry=str(entry.id), exc_info=error)
            await self._record(job, entry, error)

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

    async def _record(self, job: Job, entry: OutboxEntry, error: Exception) -> None:
        is_outage = isinstance(error, ChitramError) and error.category is Category.UNAVAILABLE
        is_last = not is_outage and entry.failures + 1 >= job.attempts
        if is_last:
            is_last = await self._give_up(job, entry)
        async with self._begin() as transaction:
            await transaction.outbox.failed(entry.id, _describe(error), counts=not is_outage, is_last=is_last)
            await transaction.commit()
        if is_last:
            _log.error("job given up", kind=entry.kind, entry=str(entry.id))

    async def _give_up(self, job: Job, entry: OutboxEntry) -> bool:
        """Say that nobody will try again; while that cannot be said, there is another attempt."""
        try:
            await job.given_up(entry)
        except Exception as error:  # noqa: BLE001 - as above
            _log.warning("job cannot be given up yet", kind=entry.kind, entry=str(entry.id), exc_info=error)
            return False
        return True


def _describe(error: Exception) -> str:
    if isinstance(error, ChitramError):
        return error.code
    if isinstance(error, TimeoutError):
        return "TimeoutError: took too long"
    return f"{type(error).__name__}: {error}"


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
